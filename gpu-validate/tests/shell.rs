//! What the program promises before it has experiments: nothing is measured, and no one can think otherwise.

use std::process::Command;

#[test]
fn it_measures_nothing_writes_nothing_and_exits_3() {
    let dir = std::env::temp_dir();
    let output =
        Command::new(env!("CARGO_BIN_EXE_gpu-validate")).current_dir(&dir).output().expect("it runs");
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(stderr.contains("measures nothing yet") && stderr.contains("no profile was written"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
