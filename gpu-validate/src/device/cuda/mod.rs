#![allow(unsafe_code)]
pub mod compiler;
mod driver;
mod host_memory;
pub mod library;
mod management;
mod products;
