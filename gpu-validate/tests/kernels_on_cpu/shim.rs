//! Builds the pretended device once and runs programs on it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use gpu_validate::kernels::source::{SOURCES, kernel_names};
use gpu_validate::kernels::{Address, Launch};
use tempfile::TempDir;

/// A compiled device.
pub struct Shim {
    folder: TempDir,
}

fn kernel_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

impl Shim {
    /// The device with the kernels as they are; `None`, said aloud, where there is no `g++`.
    pub fn get() -> Option<&'static Shim> {
        static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
        SHIM.get_or_init(|| Shim::build("", &[])).as_ref()
    }

    /// A device with `extra` source text after the kernels and more compiler options.
    pub fn build(extra: &str, options: &[&str]) -> Option<Shim> {
        if Command::new("g++").arg("--version").stdout(Stdio::null()).status().is_err() {
            assert!(
                std::env::var_os("GPU_VALIDATE_REQUIRE_CXX").is_none(),
                "GPU_VALIDATE_REQUIRE_CXX is set and g++ is missing"
            );
            eprintln!("SKIPPED: no g++, so the kernels were not run on the CPU");
            return None;
        }
        let folder = TempDir::new().expect("a folder for the compiled device");
        let mut text = String::from("#include \"cpu_shim.h\"\n#include \"prelude.cu\"\n");
        for source in SOURCES {
            text += &format!("#include \"{}\"\n", source.name);
        }
        text += extra;
        let added = extra.contains("planted(");
        let names = kernel_names().chain(added.then_some("planted"));
        let entries: Vec<String> = names.map(|name| format!("SHIM_KERNEL({name})")).collect();
        text += &format!(
            "\nconst ShimKernel SHIM_KERNELS[] = {{ {} }};\nconst size_t SHIM_KERNEL_COUNT = {};\n",
            entries.join(", "),
            entries.len()
        );
        let main = folder.path().join("kernels.cpp");
        std::fs::write(&main, text).expect("the folder can be written");
        let output = Command::new("g++")
            .args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"])
            .args(["-Wno-maybe-uninitialized", "-Wno-unused-variable"])
            .args(options)
            .arg("-I")
            .arg(kernel_folder())
            .arg("-o")
            .arg(folder.path().join("device"))
            .arg(&main)
            .arg(kernel_folder().join("cpu_shim.cpp"))
            .output()
            .expect("g++ starts");
        assert!(output.status.success(), "g++ failed:\n{}", String::from_utf8_lossy(&output.stderr));
        Some(Shim { folder })
    }

    fn command(&self) -> Command {
        Command::new(self.folder.path().join("device"))
    }

    /// Each kernel with its parameters' kinds, as the compiler sees them.
    pub fn signatures(&self) -> Vec<(String, String)> {
        let output = self.command().arg("--signatures").output().expect("the device starts");
        let text = String::from_utf8(output.stdout).expect("ASCII");
        text.lines()
            .map(|line| {
                let (name, kinds) = line.split_once(' ').expect("a name and kinds");
                (name.to_owned(), kinds.to_owned())
            })
            .collect()
    }
}

/// Buffers and launches, in order.
#[derive(Default)]
pub struct Program {
    buffers: Vec<(bool, Vec<u8>)>,
    launches: Vec<Launch>,
}

impl Program {
    fn add(&mut self, holds_addresses: bool, bytes: Vec<u8>) -> Address {
        self.buffers.push((holds_addresses, bytes));
        (self.buffers.len() as u64) << 40
    }

    /// A buffer of bytes.
    pub fn bytes(&mut self, bytes: Vec<u8>) -> Address {
        self.add(false, bytes)
    }

    /// A buffer of bf16.
    pub fn bf16(&mut self, values: &[u16]) -> Address {
        self.add(false, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// A buffer of 32-bit words.
    pub fn words(&mut self, values: &[u32]) -> Address {
        self.add(false, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// A buffer of 64-bit words that are not addresses.
    pub fn long_words(&mut self, values: &[u64]) -> Address {
        self.add(false, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// A table of addresses.
    pub fn addresses(&mut self, values: &[Address]) -> Address {
        self.add(true, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// `bytes` of NaN, as bf16 and as fp32.
    pub fn poison(&mut self, bytes: u64) -> Address {
        let pattern = [0xc0, 0x7f].into_iter().cycle();
        self.add(false, pattern.take(usize::try_from(bytes).expect("a small buffer")).collect())
    }

    /// Runs after everything before it.
    pub fn launch(&mut self, launch: Launch) {
        self.launches.push(launch);
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let word = |out: &mut Vec<u8>, value: u64| out.extend(value.to_le_bytes());
        word(&mut out, self.buffers.len() as u64);
        for (holds_addresses, bytes) in &self.buffers {
            word(&mut out, u64::from(*holds_addresses));
            word(&mut out, bytes.len() as u64);
            out.extend(bytes);
        }
        word(&mut out, self.launches.len() as u64);
        for launch in &self.launches {
            word(&mut out, launch.kernel.len() as u64);
            out.extend(launch.kernel.bytes());
            for size in launch.grid {
                word(&mut out, u64::from(size));
            }
            word(&mut out, u64::from(launch.block));
            word(&mut out, launch.arguments.len() as u64);
            for argument in &launch.arguments {
                word(&mut out, argument.bits());
            }
        }
        out
    }

    /// The buffers afterwards, or what the device said when it refused.
    pub fn try_run(&self, shim: &Shim) -> Result<Results, String> {
        let mut child = shim
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut input = child.stdin.take().expect("standard input is a pipe");
        input.write_all(&self.encode()).map_err(|error| error.to_string())?;
        drop(input);
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
        let mut rest = output.stdout.as_slice();
        let buffers = self.buffers.iter().map(|(_, bytes)| {
            let (buffer, after) = rest.split_at(bytes.len());
            rest = after;
            buffer.to_vec()
        });
        Ok(Results { buffers: buffers.collect() })
    }

    /// The buffers afterwards.
    pub fn run(&self, shim: &Shim) -> Results {
        self.try_run(shim).unwrap_or_else(|message| panic!("{message}"))
    }
}

/// Every buffer after the last launch.
pub struct Results {
    buffers: Vec<Vec<u8>>,
}

impl Results {
    /// A buffer's bytes.
    pub fn bytes(&self, address: Address) -> &[u8] {
        &self.buffers[(address >> 40) as usize - 1]
    }

    /// A buffer as bf16.
    pub fn bf16(&self, address: Address) -> Vec<u16> {
        self.bytes(address).as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes)).collect()
    }

    /// A buffer as 32-bit words.
    pub fn words(&self, address: Address) -> Vec<u32> {
        self.bytes(address).as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()
    }

    /// A buffer as 64-bit words.
    pub fn long_words(&self, address: Address) -> Vec<u64> {
        self.bytes(address).as_chunks::<8>().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect()
    }

    /// A buffer as fp32.
    pub fn fp32(&self, address: Address) -> Vec<f64> {
        self.words(address).into_iter().map(|bits| f64::from(f32::from_bits(bits))).collect()
    }
}
