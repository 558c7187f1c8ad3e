//! Compiles kernels with NVRTC to machine code of one architecture, and hands on what the compiler says of registers and
//! spills. Needs no GPU.
//!
//! Machine code (a cubin) and not PTX, so that a driver older than the compiler need not translate it. Options are
//! passed as they are: cudarc's own option for fast mathematics writes another one (`gpu-measurement.md` §5). Knows no
//! kernel by name.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use cudarc::nvrtc::sys::{self, nvrtcResult};

use super::driver::without_panic;
use crate::device::DeviceError;
use crate::kernels::source;

/// Every symbol that is called.
const NEEDED: [&str; 9] = [
    "nvrtcCompileProgram",
    "nvrtcCreateProgram",
    "nvrtcDestroyProgram",
    "nvrtcGetCUBIN",
    "nvrtcGetCUBINSize",
    "nvrtcGetErrorString",
    "nvrtcGetProgramLog",
    "nvrtcGetProgramLogSize",
    "nvrtcVersion",
];

/// Machine code and the compiler's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// For one architecture.
    pub machine_code: Vec<u8>,
    /// What the compiler said: with `--ptxas-options=-v`, registers and spills of each kernel.
    pub log: String,
}

/// A loaded NVRTC.
pub struct Compiler {
    /// Its version, for example `13.0`.
    pub version: String,
    archs: Vec<u32>,
}

impl Compiler {
    /// NVRTC, which `preflight` must have found.
    ///
    /// # Errors
    /// A function that this NVRTC lacks.
    pub fn open() -> Result<Self, DeviceError> {
        without_panic("opening NVRTC", || {
            // SAFETY: only looks symbols up in a library that is never unloaded.
            let lacks = |name: &&str| unsafe { sys::culib().get::<*const ()>(name.as_bytes()).is_err() };
            if let Some(name) = NEEDED.iter().find(|name| lacks(name)) {
                return Err(failed(
                    "opening NVRTC",
                    format!("it has no `{name}`; hint: NVRTC 12 or later is needed"),
                ));
            }
            let (mut major, mut minor) = (0, 0);
            // SAFETY: fills two ints.
            check("nvrtcVersion", unsafe { sys::nvrtcVersion(&mut major, &mut minor) })?;
            Ok(Compiler { version: format!("{major}.{minor}"), archs: supported() })
        })
    }

    /// Whether it can compile for compute capability `arch`; `true` where it cannot tell.
    pub fn supports(&self, arch: (u32, u32)) -> bool {
        self.archs.is_empty() || self.archs.contains(&(10 * arch.0 + arch.1))
    }

    /// Compiles one source for compute capability `arch`, (major, minor).
    ///
    /// # Errors
    /// With the compiler's own lines, if it refuses the source.
    pub fn compile(
        &self,
        name: &str,
        text: &str,
        arch: (u32, u32),
        options: &[&str],
    ) -> Result<Compiled, DeviceError> {
        let what = format!("compiling {name} for {}", source::arch(arch.0, arch.1));
        without_panic(&what, || {
            let program = Program::new(name, text)?;
            let architecture = format!("--gpu-architecture={}", source::arch(arch.0, arch.1));
            let options: Vec<CString> =
                [architecture.as_str()].iter().chain(options).map(|option| c_string(option)).collect();
            let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
            // SAFETY: as many pointers to strings as said, alive during the call.
            let result =
                unsafe { sys::nvrtcCompileProgram(program.0, pointers.len() as i32, pointers.as_ptr()) };
            let log = program.log()?;
            if result != nvrtcResult::NVRTC_SUCCESS {
                return Err(failed(&what, format!("{}: {}", text_of(result), log.trim())));
            }
            Ok(Compiled { machine_code: program.machine_code()?, log })
        })
    }
}

/// Compute capabilities that NVRTC knows; empty where it cannot tell.
fn supported() -> Vec<u32> {
    type Count = unsafe extern "C" fn(*mut i32) -> nvrtcResult;
    // SAFETY: the two functions have this signature; the second fills as many ints as the first said.
    unsafe {
        let library = sys::culib();
        let (Ok(count), Ok(fill)) = (
            library.get::<Count>(b"nvrtcGetNumSupportedArchs"),
            library.get::<Count>(b"nvrtcGetSupportedArchs"),
        ) else {
            return Vec::new();
        };
        let mut archs = 0;
        if count(&mut archs) != nvrtcResult::NVRTC_SUCCESS || archs <= 0 {
            return Vec::new();
        }
        let mut known = vec![0_i32; archs as usize];
        if fill(known.as_mut_ptr()) != nvrtcResult::NVRTC_SUCCESS {
            return Vec::new();
        }
        known.into_iter().filter_map(|arch| u32::try_from(arch).ok()).collect()
    }
}

/// A program of NVRTC, destroyed when dropped.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(name: &str, source: &str) -> Result<Self, DeviceError> {
        let (c_name, source) = (c_string(name), c_string(source));
        let mut program = ptr::null_mut();
        // SAFETY: fills a local; NVRTC copies both strings; there are no headers.
        let result = unsafe {
            let (source, name) = (source.as_ptr(), c_name.as_ptr());
            sys::nvrtcCreateProgram(&mut program, source, name, 0, ptr::null(), ptr::null())
        };
        check("nvrtcCreateProgram", result)?;
        Ok(Program(program))
    }

    fn log(&self) -> Result<String, DeviceError> {
        let mut bytes = 0;
        // SAFETY: the first call says how many bytes the second fills, the final zero included.
        unsafe {
            check("nvrtcGetProgramLogSize", sys::nvrtcGetProgramLogSize(self.0, &mut bytes))?;
            let mut log = vec![0_u8; bytes.max(1)];
            check("nvrtcGetProgramLog", sys::nvrtcGetProgramLog(self.0, log.as_mut_ptr().cast()))?;
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            Ok(String::from_utf8_lossy(&log[..end]).into_owned())
        }
    }

    fn machine_code(&self) -> Result<Vec<u8>, DeviceError> {
        let mut bytes = 0;
        // SAFETY: the first call says how many bytes the second fills.
        unsafe {
            check("nvrtcGetCUBINSize", sys::nvrtcGetCUBINSize(self.0, &mut bytes))?;
            let mut code = vec![0_u8; bytes];
            check("nvrtcGetCUBIN", sys::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast()))?;
            Ok(code)
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program came from `nvrtcCreateProgram` and is used no more.
        let _ = unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("Invariant: sources, names and options have no zero byte")
}

fn check(what: &str, result: nvrtcResult) -> Result<(), DeviceError> {
    if result == nvrtcResult::NVRTC_SUCCESS { Ok(()) } else { Err(failed(what, text_of(result))) }
}

fn text_of(result: nvrtcResult) -> String {
    // SAFETY: answers a string that lives as long as the library for every code, known or not.
    unsafe {
        let text = sys::nvrtcGetErrorString(result);
        if text.is_null() {
            format!("{result:?}")
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}

fn failed(what: &str, message: String) -> DeviceError {
    DeviceError::Failed { what: what.to_owned(), message }
}
