//! Builds the fake driver's libraries once per version of their sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use gpu_validate::kernels::source::{SOURCES, kernel_names};
use sha2::{Digest, Sha256};

const DRIVER_PARTS: [&str; 7] = [
    "capture.cpp",
    "driver.cpp",
    "kernels.cpp",
    "memory.cpp",
    "modules.cpp",
    "queue.cpp",
    "stream_calls.cpp",
];
const WARNINGS: [&str; 8] = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-maybe-uninitialized",
    "-Wno-unused-variable",
    "-Wno-unused-function",
    "-Wno-unused-parameter",
];

/// The folder with `libcuda.so.1`, `libcublas.so.13` and `libnvrtc.so.13`; `None`, said aloud, where there is no `g++`.
pub fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(build).as_deref()
}

fn driver_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_cuda/driver")
}

fn kernel_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

fn build() -> Option<PathBuf> {
    if Command::new("g++").arg("--version").stdout(Stdio::null()).status().is_err() {
        let required = std::env::var_os("GPU_VALIDATE_REQUIRE_CXX").is_some();
        assert!(!required, "GPU_VALIDATE_REQUIRE_CXX is set and g++ is missing");
        eprintln!("SKIPPED: no g++, so the CUDA backend was not run on the fake driver");
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let finished = target.join(format!("fake-cuda-{}", digest()));
    if !finished.join("libcuda.so.1").is_file() {
        // Built aside and moved there whole, so that another process never sees half of it.
        let work = tempfile::Builder::new().prefix("fake-cuda-build-").tempdir_in(target);
        let work = work.expect("a folder below the target folder");
        build_in(work.path());
        if fs::rename(work.path(), &finished).is_err() {
            assert!(finished.join("libcuda.so.1").is_file(), "{} cannot be made", finished.display());
        }
    }
    Some(finished)
}

/// Of everything that goes into the libraries.
fn digest() -> String {
    let mut files: Vec<PathBuf> = [driver_folder(), kernel_folder()]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("a folder of the crate"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension().is_some_and(|end| ["cpp", "h", "cu"].iter().any(|known| end == *known))
        })
        .collect();
    files.sort();
    let mut hash = Sha256::new();
    hash.update(include_bytes!("libraries.rs"));
    for file in files {
        hash.update(file.file_name().expect("a file").as_encoded_bytes());
        hash.update(fs::read(&file).expect("a source of the crate"));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn build_in(folder: &Path) {
    let includes: String = SOURCES.iter().map(|source| format!("#include \"{}\"\n", source.name)).collect();
    fs::write(folder.join("kernel_sources.inc"), format!("#include \"prelude.cu\"\n{includes}"))
        .expect("written");
    let kernels: String =
        kernel_names().map(|name| format!("FAKE_KERNEL({name}, {})\n", most_threads(name))).collect();
    fs::write(folder.join("kernel_table.inc"), kernels).expect("written");
    let parts: Vec<_> = DRIVER_PARTS.iter().map(|part| start(folder, &["-O2", "-c"], part, "o")).collect();
    let compiler = start(folder, &["-O1", "-shared", "-Wl,-soname,libnvrtc.so.13"], "nvrtc.cpp", "so");
    parts.into_iter().for_each(finish);
    let objects = DRIVER_PARTS.map(|part| folder.join(part.replace(".cpp", ".o")));
    let mut link = gxx(folder);
    link.args(["-shared", "-Wl,-soname,libcuda.so.1", "-Wl,-Bsymbolic", "-pthread", "-o", "libcuda.so.1"]);
    finish(link.args(objects).spawn().expect("g++ starts"));
    // Sums in any order, so that they run in vector registers; NaN stays NaN.
    let sums = ["-O3", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math"];
    let links = ["-shared", "-Wl,-soname,libcublas.so.13", "-Wl,-rpath,$ORIGIN", "-L.", "-l:libcuda.so.1"];
    finish(start(folder, &[&sums[..], &links[..]].concat(), "cublas.cpp", "so"));
    finish(compiler);
    for (made, name, plain) in
        [("cublas.so", "libcublas.so.13", "libcublas.so"), ("nvrtc.so", "libnvrtc.so.13", "libnvrtc.so")]
    {
        fs::rename(folder.join(made), folder.join(name)).expect("made a moment ago");
        std::os::unix::fs::symlink(name, folder.join(plain)).expect("a link");
    }
}

fn gxx(folder: &Path) -> Command {
    let mut command = Command::new("g++");
    command.current_dir(folder);
    command
}

fn start(folder: &Path, options: &[&str], source: &str, ending: &str) -> std::process::Child {
    let mut command = gxx(folder);
    let out = source.replace("cpp", ending);
    command.args(["-std=c++17", "-fPIC"]).args(WARNINGS).arg("-I").arg(kernel_folder());
    command.arg("-I.").arg("-I").arg(driver_folder()).arg("-o").arg(out).arg(driver_folder().join(source));
    command.args(options).spawn().expect("g++ starts")
}

fn finish(mut child: std::process::Child) {
    assert!(child.wait().expect("g++ ends").success(), "g++ failed: see its lines above");
}

/// The most threads that the kernel's text allows a block to have.
fn most_threads(name: &str) -> u32 {
    if name.starts_with("attention") {
        return 128; // THREADS of attention.cu, through a macro
    }
    let declared = SOURCES.iter().find_map(|source| {
        let (before, _) = source.text.split_once(&format!(" void {name}("))?;
        let (_, bounds) = before.rsplit_once("__launch_bounds__(")?;
        bounds.split(')').next()?.parse().ok()
    });
    declared.unwrap_or_else(|| panic!("kernel {name} declares how many threads its blocks have"))
}
