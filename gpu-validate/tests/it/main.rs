//! The tests of `gpu-validate` from outside: its shape, its command line, whole runs without a GPU.

mod architecture;
mod command_line;
mod whole_run;
