//! Calls of the driver that load machine code and launch kernels.

use std::ffi::{CString, c_void};
use std::ptr;

use cudarc::driver::sys::{self, CUresult};

use super::order::RawStream;
use super::{Driver, check};
use crate::device::DeviceError;
use crate::kernels::{Argument, Launch};

/// A loaded piece of machine code.
#[derive(Clone, Copy)]
pub(in crate::device::cuda) struct RawModule(sys::CUmodule);

/// A kernel.
#[derive(Clone, Copy)]
pub(in crate::device::cuda) struct RawFunction(sys::CUfunction);

impl Driver {
    /// Loads machine code.
    pub(in crate::device::cuda) fn load_module(
        &self,
        what: &str,
        code: &[u8],
    ) -> Result<RawModule, DeviceError> {
        let mut module = ptr::null_mut();
        // SAFETY: fills a local; the code is a whole cubin, whose header says its length, and is copied by the driver.
        unsafe {
            let result = sys::cuModuleLoadData(&mut module, code.as_ptr().cast());
            check(format!("cuModuleLoadData({what})"), result)?;
        }
        Ok(RawModule(module))
    }

    /// Unloads machine code.
    pub(in crate::device::cuda) fn unload_module(&self, module: RawModule) -> Result<(), DeviceError> {
        // SAFETY: the module came from `load_module` and its owner hands it over once.
        unsafe { check("cuModuleUnload", sys::cuModuleUnload(module.0)) }
    }

    /// A kernel of a module, loaded now rather than at its first launch.
    pub(in crate::device::cuda) fn function(
        &self,
        module: RawModule,
        name: &str,
    ) -> Result<RawFunction, DeviceError> {
        let c_name = CString::new(name).expect("Invariant: names of kernels have no zero byte");
        let mut function = ptr::null_mut();
        // SAFETY: fills a local; the module is alive, the name ends with a zero.
        unsafe {
            let result = sys::cuModuleGetFunction(&mut function, module.0, c_name.as_ptr());
            check(format!("cuModuleGetFunction({name})"), result)?;
            if let Some(load) = self.load_function {
                check(format!("cuFuncLoad({name})"), load(function))?;
            }
        }
        Ok(RawFunction(function))
    }

    /// Bytes of local memory per thread: above 0 where registers were spilled.
    pub(in crate::device::cuda) fn local_bytes(&self, function: RawFunction) -> Result<u32, DeviceError> {
        let mut bytes = 0;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES;
        // SAFETY: fills an int; the function is alive.
        unsafe {
            check("cuFuncGetAttribute", sys::cuFuncGetAttribute(&mut bytes, attribute, function.0))?;
        }
        Ok(bytes.max(0) as u32)
    }

    /// Sizes of a kernel's parameters, in bytes; `None` where the driver cannot tell (before CUDA 12.4).
    pub(in crate::device::cuda) fn parameter_bytes(&self, function: RawFunction) -> Option<Vec<usize>> {
        let ask = self.parameter_info?;
        let mut sizes = Vec::new();
        loop {
            let (mut offset, mut bytes) = (0, 0);
            // SAFETY: fills two locals; the function is alive; an index past the last parameter is answered by an error.
            match unsafe { ask(function.0, sizes.len(), &mut offset, &mut bytes) } {
                CUresult::CUDA_SUCCESS => sizes.push(bytes),
                _ => return Some(sizes),
            }
        }
    }

    /// Submits a kernel. Its arguments must be the kernel's own, in order; their addresses must be reachable.
    pub(in crate::device::cuda) fn launch(
        &self,
        stream: RawStream,
        function: RawFunction,
        launch: &Launch,
    ) -> Result<(), DeviceError> {
        let mut addresses: Vec<*mut c_void> = launch.arguments.iter().map(address_of).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: each address is of an argument that outlives the call, which copies them; that they are the kernel's
        // own in number and size was compared before its first launch, where the driver can tell.
        let result = unsafe {
            sys::cuLaunchKernel(
                function.0,
                x,
                y,
                z,
                launch.block,
                1,
                1,
                0,
                stream.0,
                addresses.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        if result == CUresult::CUDA_SUCCESS {
            return Ok(());
        }
        let Launch { kernel, grid, block, .. } = launch;
        check(format!("cuLaunchKernel({kernel}, grid {grid:?}, block {block})"), result)
    }
}

/// Where an argument's value lies: the driver reads as many bytes from there as the kernel declares.
fn address_of(argument: &Argument) -> *mut c_void {
    match argument {
        Argument::U32(value) => ptr::from_ref(value).cast_mut().cast(),
        Argument::F32(value) => ptr::from_ref(value).cast_mut().cast(),
        Argument::U64(value) | Argument::Pointer(value) => ptr::from_ref(value).cast_mut().cast(),
    }
}

/// Sizes of arguments, in bytes.
pub(in crate::device::cuda) fn argument_bytes(arguments: &[Argument]) -> Vec<usize> {
    let bytes = |argument: &Argument| match argument {
        Argument::U32(_) | Argument::F32(_) => 4,
        Argument::U64(_) | Argument::Pointer(_) => 8,
    };
    arguments.iter().map(bytes).collect()
}
