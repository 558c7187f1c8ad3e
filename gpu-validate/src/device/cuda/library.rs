//! Opens CUDA's libraries before cudarc does, and asks them the few things that `preflight` tells.
//!
//! cudarc loads a library at its first call and panics where it is missing, so each is opened here by the names that
//! cudarc would try, in its order; what lies outside the loader's path is loaded by full path with its symbols global,
//! and the loader then answers cudarc's request for the same name with it. Nothing is ever unloaded. It knows neither
//! devices nor experiments.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::preflight::Search;

/// A library to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The driver.
    Driver,
    /// The compiler.
    Nvrtc,
    /// Matrix products.
    Cublas,
    /// Management.
    Nvml,
}

impl Wanted {
    /// File names, in the order in which they are tried.
    fn names(self) -> Vec<String> {
        match self {
            Wanted::Driver => {
                [vec!["libcuda.so.1".to_owned()], cudarc::get_lib_name_candidates("cuda")].concat()
            }
            Wanted::Nvrtc => cudarc::get_lib_name_candidates("nvrtc"),
            Wanted::Cublas => cudarc::get_lib_name_candidates("cublas"),
            Wanted::Nvml => vec!["libnvidia-ml.so.1".to_owned(), "libnvidia-ml.so".to_owned()],
        }
    }

    /// How its file's name starts.
    const fn stem(self) -> &'static str {
        match self {
            Wanted::Driver => "libcuda.so",
            Wanted::Nvrtc => "libnvrtc.so",
            Wanted::Cublas => "libcublas.so",
            Wanted::Nvml => "libnvidia-ml.so",
        }
    }

    /// Starts of the names of libraries beside it that it loads by bare name.
    const fn companions(self) -> &'static [&'static str] {
        match self {
            Wanted::Nvrtc => &["libnvrtc-builtins.so."],
            Wanted::Cublas => &["libcublasLt.so."],
            Wanted::Driver | Wanted::Nvml => &[],
        }
    }
}

/// A library that stays loaded until the program ends.
pub struct Opened {
    library: ManuallyDrop<Library>,
    path: Option<PathBuf>,
    name: String,
    /// Whether the loader alone would not have found it.
    pub by_full_path: bool,
}

impl Opened {
    /// Its file, as far as it is known.
    pub fn shown(&self) -> String {
        self.path.as_ref().map_or_else(|| self.name.clone(), |path| path.display().to_string())
    }
}

/// Opens a library.
///
/// # Errors
/// One line: that it was not found, or why files that are there could not be loaded.
pub fn open(wanted: Wanted, search: &Search) -> Result<Opened, String> {
    let names = wanted.names();
    if search.loader {
        for name in &names {
            if let Ok(library) = load(Path::new(name)) {
                let path = mapped_file(wanted.stem());
                return Ok(Opened { library, path, name: name.clone(), by_full_path: false });
            }
        }
    }
    let mut refused = Vec::new();
    for folder in &search.folders {
        for name in &names {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            load_companions(wanted, folder);
            match load(&path) {
                Ok(library) => {
                    return Ok(Opened { library, path: Some(path), name: name.clone(), by_full_path: true });
                }
                Err(reason) => refused.push(reason),
            }
        }
    }
    match refused.first() {
        None => Err("not found".to_owned()),
        Some(reason) => Err(format!("there, but cannot be loaded: {reason}")),
    }
}

fn load(path: &Path) -> Result<ManuallyDrop<Library>, String> {
    // SAFETY: loading runs the library's initialisers; these are NVIDIA's own libraries, which cudarc would load too.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    opened.map(ManuallyDrop::new).map_err(|error| error.to_string().replace('\n', " "))
}

/// A companion that cannot be loaded shows when the library itself is used, so nothing is said here.
fn load_companions(wanted: Wanted, folder: &Path) {
    let Ok(listing) = std::fs::read_dir(folder) else { return };
    let mut files: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if wanted.companions().iter().any(|start| name.starts_with(start)) {
            let _ = load(&file);
        }
    }
}

/// The file of a loaded library, as the kernel has it.
fn mapped_file(stem: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let files = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let mut named =
        files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem)));
    named.next().map(Path::to_owned)
}

/// What the driver says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverAnswer {
    /// Version of its interface, for example 13000.
    pub api: u32,
    /// The GPUs that this process may use.
    pub gpus: Vec<Gpu>,
}

/// A GPU, as the driver introduces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Compute capability, (major, minor).
    pub arch: (u32, u32),
}

type Init = unsafe extern "C" fn(c_uint) -> c_uint;
type FillInt = unsafe extern "C" fn(*mut c_int) -> c_uint;
type DeviceGet = unsafe extern "C" fn(*mut c_int, c_int) -> c_uint;
type DeviceAttribute = unsafe extern "C" fn(*mut c_int, c_uint, c_int) -> c_uint;
type DeviceName = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_uint;
type ErrorText = unsafe extern "C" fn(c_uint, *mut *const c_char) -> c_uint;

/// Numbers of the attributes that are the compute capability.
const MAJOR: c_uint = 75;
const MINOR: c_uint = 76;

/// Starts the driver and counts GPUs.
///
/// # Errors
/// One line: the call that failed, its code and the driver's word for it.
pub fn ask_driver(opened: &Opened) -> Result<DriverAnswer, String> {
    load_kernels_eagerly();
    a_queue_for_every_stream();
    // SAFETY: these functions have the C signatures above since CUDA 6, and every pointer handed to them is to a
    // local of the type they fill; `name` is as long as said.
    unsafe {
        let init: Init = symbol(opened, "cuInit")?;
        checked(opened, "cuInit", init(0))?;
        let version: FillInt = symbol(opened, "cuDriverGetVersion")?;
        let mut api = 0;
        checked(opened, "cuDriverGetVersion", version(&mut api))?;
        let count: FillInt = symbol(opened, "cuDeviceGetCount")?;
        let mut devices = 0;
        checked(opened, "cuDeviceGetCount", count(&mut devices))?;
        let get: DeviceGet = symbol(opened, "cuDeviceGet")?;
        let name_of: DeviceName = symbol(opened, "cuDeviceGetName")?;
        let attribute: DeviceAttribute = symbol(opened, "cuDeviceGetAttribute")?;
        let mut gpus = Vec::new();
        for ordinal in 0..devices {
            let mut device = 0;
            let mut name: [c_char; 128] = [0; 128];
            checked(opened, "cuDeviceGet", get(&mut device, ordinal))?;
            checked(opened, "cuDeviceGetName", name_of(name.as_mut_ptr(), 127, device))?;
            let (mut major, mut minor) = (0, 0);
            checked(opened, "cuDeviceGetAttribute", attribute(&mut major, MAJOR, device))?;
            checked(opened, "cuDeviceGetAttribute", attribute(&mut minor, MINOR, device))?;
            let name = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
            gpus.push(Gpu { name, arch: (major.max(0) as u32, minor.max(0) as u32) });
        }
        Ok(DriverAnswer { api: api.max(0) as u32, gpus })
    }
}

fn checked(opened: &Opened, call: &str, code: c_uint) -> Result<(), String> {
    if code == 0 {
        return Ok(());
    }
    let mut text: *const c_char = std::ptr::null();
    // SAFETY: `cuGetErrorName` fills a pointer to a string that lives as long as the library, or null.
    let word = unsafe {
        match symbol::<ErrorText>(opened, "cuGetErrorName") {
            Ok(name) if name(code, &mut text) == 0 && !text.is_null() => {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
            _ => "no name for it".to_owned(),
        }
    };
    Err(format!("{call} answers {code} ({word})"))
}

/// The version of NVRTC.
///
/// # Errors
/// One line: the function that is missing, or its result.
pub fn nvrtc_version(opened: &Opened) -> Result<String, String> {
    type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_uint;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: `nvrtcVersion` fills two ints.
    let code = unsafe { symbol::<Version>(opened, "nvrtcVersion")?(&mut major, &mut minor) };
    if code == 0 { Ok(format!("{major}.{minor}")) } else { Err(format!("nvrtcVersion answers {code}")) }
}

/// The version of cuBLAS.
///
/// # Errors
/// One line: the function that is missing, or its result.
pub fn cublas_version(opened: &Opened) -> Result<String, String> {
    type Property = unsafe extern "C" fn(c_uint, *mut c_int) -> c_uint;
    let mut parts = [0; 3];
    for (which, part) in parts.iter_mut().enumerate() {
        // SAFETY: `cublasGetProperty` takes 0, 1 or 2 (major, minor, patch) and fills an int; it needs no handle.
        let code = unsafe { symbol::<Property>(opened, "cublasGetProperty")?(which as c_uint, part) };
        if code != 0 {
            return Err(format!("cublasGetProperty answers {code}"));
        }
    }
    Ok(format!("{}.{}.{}", parts[0], parts[1], parts[2]))
}

/// # Safety
/// `T` must be a function pointer with the symbol's own C signature.
unsafe fn symbol<T: Copy>(opened: &Opened, name: &str) -> Result<T, String> {
    // SAFETY: the caller's promise; the library is never unloaded.
    unsafe { opened.library.get::<T>(name.as_bytes()) }
        .map(|symbol| *symbol)
        .map_err(|_| format!("has no {name}"))
}

/// Gives every stream a hardware queue of its own, up to 32: with the default of 8 the copy streams of a batch share
/// queues, and copies wait for others that they do not depend on. A setting of this process alone.
fn a_queue_for_every_stream() {
    const VARIABLE: &str = "CUDA_DEVICE_MAX_CONNECTIONS";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: called before the driver is first started, when no thread of it or of ours reads the environment.
        unsafe { std::env::set_var(VARIABLE, "32") };
    }
}

/// Makes CUDA load every kernel when its library is loaded. With lazy loading (the default) the first launch of a kernel
/// may wait for the device, and behind a closed latch that wait ends only when the latch opens by itself. A setting of
/// this process alone; a value that is already set stays.
fn load_kernels_eagerly() {
    const VARIABLE: &str = "CUDA_MODULE_LOADING";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: called before the driver is first started, when no thread of it or of ours reads the environment.
        unsafe { std::env::set_var(VARIABLE, "EAGER") };
    }
}
