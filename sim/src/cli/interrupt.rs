//! Ctrl-C and SIGTERM: complete files or none (design §2.1). What is half written is taken away before the end.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// Exit code after a signal, as shells have it for SIGINT.
const INTERRUPTED: i32 = 130;

/// Directories of unfinished files.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static HANDLER: Once = Once::new();

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, an interrupt removes its directory before the program ends.
#[must_use]
pub struct RemoveOnInterrupt {
    dir: PathBuf,
}

impl RemoveOnInterrupt {
    /// Watches over `dir`.
    ///
    /// # Errors
    /// The system lets no handler be installed.
    pub fn new(dir: &Path) -> Result<Self, ctrlc::Error> {
        let mut installed = Ok(());
        HANDLER.call_once(|| {
            installed = ctrlc::set_handler(|| {
                // Held until the end: whoever is moving finished files into place is waited for, and no one starts.
                let dirs = unfinished();
                for dir in dirs.iter() {
                    // Nothing can be done about a directory that does not go.
                    let _ = std::fs::remove_dir_all(dir);
                }
                std::process::exit(INTERRUPTED);
            });
        });
        installed?;
        unfinished().push(dir.to_owned());
        Ok(RemoveOnInterrupt { dir: dir.to_owned() })
    }
}

impl Drop for RemoveOnInterrupt {
    fn drop(&mut self) {
        unfinished().retain(|dir| *dir != self.dir);
    }
}

/// Does something that an interrupt must not cut in two.
pub fn without<T>(interrupt_waits: impl FnOnce() -> T) -> T {
    let _held = unfinished();
    interrupt_waits()
}
