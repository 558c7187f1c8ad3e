//! Builds the pretended driver and runs a test's body in a process of its own that finds it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use gpu_validate::device::cuda::CudaDevice;
use gpu_validate::kernels::source::{SOURCES, kernel_names};
use gpu_validate::preflight;
use tempfile::TempDir;

/// Set in the process in which a body runs.
const INSIDE: &str = "GPU_VALIDATE_INSIDE_A_FAKE";

/// Runs `body` with the pretended driver; `variables` are added to the environment. Skips, aloud, without `g++`.
pub fn on_fake_driver(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    static BUILT: OnceLock<Option<TempDir>> = OnceLock::new();
    let Some(folder) = BUILT.get_or_init(build) else { return };
    let output = Command::new(std::env::current_exe().expect("this program has a file"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env(INSIDE, "yes")
        .envs(variables.iter().copied())
        .output()
        .expect("this program starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{test}: {}\n{}", output.status, said.concat());
    assert!(said[0].contains("1 passed"), "{test} did not run:\n{}", said.concat());
}

/// The pretended GPU.
pub fn open() -> CudaDevice {
    let found = preflight::probe();
    assert_eq!(found.missing_line(), None, "{found}");
    CudaDevice::open(&found, 0).unwrap_or_else(|error| panic!("{error}"))
}

fn build() -> Option<TempDir> {
    if Command::new("g++").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(
            std::env::var_os("GPU_VALIDATE_REQUIRE_CXX").is_none(),
            "GPU_VALIDATE_REQUIRE_CXX is set and g++ is missing"
        );
        eprintln!("SKIPPED: no g++, so the CUDA backend was not run on a pretended driver");
        return None;
    }
    let folder = TempDir::new().expect("a folder for the library");
    let here = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let main = folder.path().join("kernels.cpp");
    std::fs::write(&main, kernels()).expect("the folder can be written");
    let library = folder.path().join("libcuda.so.1");
    let output = Command::new("g++")
        .args(["-std=c++17", "-O2", "-shared", "-fPIC", "-pthread", "-w"])
        .args(["-Wl,-soname,libcuda.so.1", "-o"])
        .arg(&library)
        .arg("-I")
        .arg(here("kernels"))
        .args([main, here("tests/cuda_on_a_fake_driver/driver.cpp")])
        .output()
        .expect("g++ starts");
    assert!(output.status.success(), "g++ failed:\n{}", String::from_utf8_lossy(&output.stderr));
    for name in ["libnvrtc.so.13", "libcublas.so.13"] {
        link(&library, folder.path().join(name));
    }
    Some(folder)
}

fn link(to: &Path, name: PathBuf) {
    std::os::unix::fs::symlink(to, name).expect("a link can be made");
}

fn kernels() -> String {
    let files = SOURCES.iter().map(|source| format!("#include \"{}\"\n", source.name)).collect::<String>();
    let entries: Vec<String> = kernel_names().map(|name| format!("SHIM_KERNEL({name})")).collect();
    format!(
        "#include \"cpu_shim.h\"\n#include \"prelude.cu\"\n{files}\n\
         const ShimKernel SHIM_KERNELS[] = {{ {} }};\nconst size_t SHIM_KERNEL_COUNT = {};\n",
        entries.join(", "),
        entries.len()
    )
}
