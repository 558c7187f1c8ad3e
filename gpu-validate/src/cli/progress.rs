//! How far a run is, on stderr: a bar with rate and time left where stderr is a terminal, a line per group elsewhere,
//! nothing with `--quiet`. Without colour under `NO_COLOR`.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::session::Progress;

/// Shows a run's progress on stderr.
pub struct Bar {
    bar: ProgressBar,
    lines: bool,
    quiet: bool,
}

impl Bar {
    /// A bar that shows nothing yet.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let hidden = quiet || !terminal;
        let target =
            if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let shape = if plain { "{bar:30}" } else { "{bar:30.cyan/dim}" };
        let template = format!("{{msg}} {shape} {{pos}}/{{len}} points, {{per_sec}}, {{eta}} left");
        bar.set_style(
            ProgressStyle::with_template(&template).expect("Invariant: the template is well formed"),
        );
        Bar { bar, lines: !quiet && !terminal, quiet }
    }
}

impl Progress for Bar {
    fn group(&mut self, experiment: &str, points: usize) {
        self.bar.set_message(experiment.to_owned());
        self.bar.reset();
        self.bar.set_length(points as u64);
        if self.lines {
            eprintln!("{experiment}: {points} points");
        }
    }

    fn point(&mut self) {
        self.bar.inc(1);
    }

    fn note(&mut self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{line}"));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
