//! A progress bar on stderr: how far, how fast, how long still. Silent unless stderr is a terminal, and with
//! `--quiet`; without colour under `NO_COLOR`. The only place that looks at the wall clock (in indicatif).

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shown at most so many times per second.
const REDRAWS_PER_SECOND: u8 = 10;

/// A bar over a known number of parts; it disappears when dropped.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over `total` parts of `unit` (`"requests"`), behind `label`.
    pub fn new(label: &str, unit: &str, total: u64, quiet: bool) -> Self {
        let silent = quiet || !std::io::stderr().is_terminal();
        let target = if silent {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND)
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        bar.set_style(style(unit, no_color(std::env::var_os("NO_COLOR").as_deref())));
        bar.set_message(label.to_owned());
        Progress { bar }
    }

    /// Adds parts that are done.
    pub fn add(&self, done: u64) {
        self.bar.inc(done);
    }

    /// Takes the bar away before its end.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}

/// Set and not empty means no colour (no-color.org).
fn no_color(value: Option<&std::ffi::OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty())
}

fn style(unit: &str, plain: bool) -> ProgressStyle {
    let bar = if plain { "{bar:30}" } else { "{bar:30.cyan/dim}" };
    let template = format!("{{msg}} {bar} {{human_pos}}/{{human_len}} {unit}, {{per_sec}}, {{eta}} left");
    ProgressStyle::with_template(&template).expect("Invariant: the template is well formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_counts_only_when_it_is_not_empty() {
        assert!(!no_color(None));
        assert!(!no_color(Some("".as_ref())));
        assert!(no_color(Some("1".as_ref())));
    }

    #[test]
    fn a_bar_that_no_terminal_shows_still_counts() {
        let progress = Progress::new("demo", "requests", 10, true);
        progress.add(4);
        progress.add(2);
        assert_eq!(progress.bar.position(), 6);
        assert!(progress.bar.is_hidden());
        for plain in [false, true] {
            style("requests", plain);
        }
    }
}
