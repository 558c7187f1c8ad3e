//! Matrix products by cuBLAS: bf16 in and out, fp32 accumulation, one handle and one workspace per stream.
//!
//! The workspace is ours, so that captured graphs and repeated runs use the same memory and give the same bits. cuBLAS
//! forgets it whenever its stream is set, so it is set again each time. Knows no model.

use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};
use std::ptr;

use cudarc::cublas::sys::{
    self, cublasComputeType_t, cublasGemmAlgo_t, cublasMath_t, cublasOperation_t, cublasStatus_t,
    cudaDataType_t,
};

use super::driver::{Driver, RawStream, without_panic};
use crate::device::{DeviceError, GemmWork};

/// Workspace of a handle: what cuBLAS recommends for Hopper (`gpu-measurement.md` §4.1, E5).
const WORKSPACE_BYTES: u64 = 32 << 20;

/// Every symbol that is called.
const NEEDED: [&str; 7] = [
    "cublasCreate_v2",
    "cublasDestroy_v2",
    "cublasGemmEx",
    "cublasGetVersion_v2",
    "cublasSetMathMode",
    "cublasSetStream_v2",
    "cublasSetWorkspace_v2",
];

/// Handles of cuBLAS, each used by one stream at a time.
pub(super) struct Products {
    handles: Vec<Handle>,
    /// Rows, columns and inner size of products that ran before: the first of a shape loads its kernel.
    seen: BTreeSet<(u32, u32, u32)>,
    /// For example `13.1.0`.
    pub(super) version: String,
}

struct Handle {
    handle: sys::cublasHandle_t,
    workspace: u64,
    stream: Option<RawStream>,
}

/// Where a product's three matrices lie.
#[derive(Clone, Copy)]
pub(super) struct ProductAddresses {
    pub(super) weights: u64,
    pub(super) input: u64,
    pub(super) output: u64,
}

impl Products {
    /// cuBLAS, which `preflight` must have found, with one handle ready.
    pub(super) fn open(driver: &Driver) -> Result<Self, DeviceError> {
        without_panic("opening cuBLAS", || {
            // SAFETY: only looks symbols up in a library that is never unloaded.
            let lacks = |name: &&str| unsafe { sys::culib().get::<*const ()>(name.as_bytes()).is_err() };
            if let Some(name) = NEEDED.iter().find(|name| lacks(name)) {
                let message = format!("it has no `{name}`; hint: cuBLAS 12 or later is needed");
                return Err(DeviceError::Failed { what: "opening cuBLAS".to_owned(), message });
            }
            let first = Handle::new(driver)?;
            let mut version = 0;
            // SAFETY: fills an int; the handle is alive.
            check("cublasGetVersion", unsafe { sys::cublasGetVersion_v2(first.handle, &mut version) })?;
            let version = format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100);
            Ok(Products { handles: vec![first], seen: BTreeSet::new(), version })
        })
    }

    /// Whether a product of this shape ran before.
    pub(super) fn has_run(&self, work: &GemmWork) -> bool {
        self.seen.contains(&(work.rows, work.out, work.inner))
    }

    /// Submits a product.
    ///
    /// `output[rows][out] = input[rows][inner] · weights[out][inner]ᵀ` of rows is, of columns,
    /// `output(out × rows) = weights(inner × out)ᵀ · input(inner × rows)`: no matrix is moved.
    pub(super) fn submit(
        &mut self,
        driver: &Driver,
        stream: RawStream,
        work: &GemmWork,
        at: ProductAddresses,
    ) -> Result<(), DeviceError> {
        let handle = self.handle_of(driver, stream)?;
        let sizes = [work.out, work.rows, work.inner].map(c_int::try_from);
        let [Ok(out), Ok(rows), Ok(inner)] = sizes else {
            panic!("Invariant: a matrix has fewer than 2^31 rows and columns");
        };
        let (one, zero) = (1.0_f32, 0.0_f32);
        let bf16 = cudaDataType_t::CUDA_R_16BF;
        // SAFETY: the matrices lie in slices of the sizes that the caller checked; the two factors are fp32, as the
        // fp32 compute type has it, and are read during the call (host pointer mode).
        let status = unsafe {
            sys::cublasGemmEx(
                handle,
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                out,
                rows,
                inner,
                ptr::from_ref(&one).cast(),
                at.weights as *const c_void,
                bf16,
                inner,
                at.input as *const c_void,
                bf16,
                inner,
                ptr::from_ref(&zero).cast(),
                at.output as *mut c_void,
                bf16,
                out,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DFALT,
            )
        };
        if status != cublasStatus_t::CUBLAS_STATUS_SUCCESS {
            check(&format!("cublasGemmEx({rows} rows, {out} out, {inner} inner)"), status)?;
        }
        self.seen.insert((work.rows, work.out, work.inner));
        Ok(())
    }

    /// Takes the handles from their streams, which are about to end.
    pub(super) fn forget_streams(&mut self) {
        for handle in &mut self.handles {
            handle.stream = None;
        }
    }

    fn handle_of(&mut self, driver: &Driver, stream: RawStream) -> Result<sys::cublasHandle_t, DeviceError> {
        if let Some(held) = self.handles.iter().find(|handle| handle.stream == Some(stream)) {
            return Ok(held.handle);
        }
        if self.handles.iter().all(|handle| handle.stream.is_some()) {
            self.handles.push(Handle::new(driver)?);
        }
        let free = self.handles.iter_mut().find(|handle| handle.stream.is_none());
        let free = free.expect("Invariant: a handle without a stream was made a moment ago");
        free.give_to(stream)?;
        Ok(free.handle)
    }

    /// Gives everything back.
    pub(super) fn close(&mut self, driver: &Driver) -> Result<(), DeviceError> {
        for handle in self.handles.drain(..) {
            // SAFETY: the handle came from `cublasCreate` and is used no more.
            check("cublasDestroy", unsafe { sys::cublasDestroy_v2(handle.handle) })?;
            driver.free(handle.workspace)?;
        }
        Ok(())
    }
}

impl Handle {
    fn new(driver: &Driver) -> Result<Self, DeviceError> {
        let mut handle = ptr::null_mut();
        // SAFETY: fills a local; this thread has a context. cuBLAS would otherwise be free to add up parts of a sum in
        // bf16; the seam says fp32 accumulation.
        unsafe {
            check("cublasCreate", sys::cublasCreate_v2(&mut handle))?;
            let mode = cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
            check("cublasSetMathMode", sys::cublasSetMathMode(handle, mode))?;
        }
        let workspace = driver.alloc(WORKSPACE_BYTES)?;
        Ok(Handle { handle, workspace, stream: None })
    }

    fn give_to(&mut self, stream: RawStream) -> Result<(), DeviceError> {
        // SAFETY: handle and stream are alive (a stream of the driver is one of cuBLAS); the workspace is our own, of
        // the size said, aligned to 256 bytes, and used by this handle alone.
        unsafe {
            check("cublasSetStream", sys::cublasSetStream_v2(self.handle, stream.0.cast()))?;
            let workspace = self.workspace as *mut c_void;
            let result = sys::cublasSetWorkspace_v2(self.handle, workspace, WORKSPACE_BYTES as usize);
            check("cublasSetWorkspace", result)?;
        }
        self.stream = Some(stream);
        Ok(())
    }
}

fn check(what: &str, status: cublasStatus_t) -> Result<(), DeviceError> {
    match status {
        cublasStatus_t::CUBLAS_STATUS_SUCCESS => Ok(()),
        cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED | cublasStatus_t::CUBLAS_STATUS_ARCH_MISMATCH => {
            Err(DeviceError::Unsupported { what: what.to_owned(), reason: format!("{status:?}") })
        }
        _ => Err(DeviceError::Failed { what: what.to_owned(), message: format!("{status:?}") }),
    }
}
