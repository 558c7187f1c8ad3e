#![allow(unsafe_code)]
pub mod library;
