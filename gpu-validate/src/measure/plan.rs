//! How one interval of a point is built: how many runs, and what keeps their submission out of it. Arithmetic only.

use crate::device::{LATCH_LIMIT_S, MOST_BEHIND_A_LATCH};

/// The longest head start, in seconds: below the latch's limit, so that a point never costs more than a latch could.
const MOST_HEAD_START_S: f64 = LATCH_LIMIT_S / 4.0;

/// The most operations of an interval with a head start.
const MOST_AFTER_A_HEAD_START: usize = 8192;

/// What keeps the measured stream from starting while its work is enqueued.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hold {
    /// A latch.
    Latch,
    /// A spin kernel of so many seconds.
    HeadStart(f64),
    /// Nothing.
    Nothing,
}

/// How one interval of a point is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Runs between the two events.
    pub runs: u32,
    /// Runs before the first event, in the same breath.
    pub lead_in: u32,
    /// Runs of each background after its first.
    pub background: Vec<u32>,
    /// How it is held.
    pub hold: Hold,
    /// Seconds of one run, as calibrated.
    pub run_s: f64,
    /// Operations of one run, and of one run of each background.
    operations: (usize, Vec<usize>),
}

impl Plan {
    pub(super) fn of_one_run(measured: &Warm, sides: &[Warm]) -> Self {
        let operations = (measured.operations, sides.iter().map(|side| side.operations).collect());
        Plan { runs: 1, lead_in: 0, background: Vec::new(), hold: Hold::Nothing, run_s: 0.0, operations }
    }

    /// After a background that ended too early: twice as much of it, or half of what is measured where no more of it fits
    /// behind the latch.
    pub fn lengthen_background(&mut self) {
        let (measured, sides) = &self.operations;
        let longer: Vec<u32> = self.background.iter().map(|times| times.saturating_mul(2)).collect();
        let of_sides =
            longer.iter().zip(sides).map(|(times, side)| (*times as usize + 1) * side).sum::<usize>();
        let need = of_sides + (self.runs + self.lead_in) as usize * measured + marks_of(sides.len());
        let most = if self.hold == Hold::Latch { MOST_BEHIND_A_LATCH } else { MOST_AFTER_A_HEAD_START };
        if need <= most {
            self.background = longer;
        } else {
            self.runs = self.runs.div_ceil(2);
        }
    }
}

/// Doubles a head start; `false` if it is none or as long as it may be.
pub(super) fn lengthen(hold: &mut Hold) -> bool {
    match hold {
        Hold::HeadStart(seconds) if *seconds < MOST_HEAD_START_S => {
            *seconds = (*seconds * 2.0).min(MOST_HEAD_START_S);
            true
        }
        _ => false,
    }
}

/// What is known of one run after its warm-ups.
pub(super) struct Warm {
    pub(super) operations: usize,
    pub(super) submit_s: f64,
    pub(super) run_s: f64,
}

impl Warm {
    /// The most runs that may ever be enqueued at once.
    pub(super) fn most(&self) -> usize {
        MOST_AFTER_A_HEAD_START / self.operations.max(1)
    }
}

/// What an interval asks of the launch queue.
pub(super) struct Need<'w> {
    pub(super) operations: usize,
    submit_s: f64,
    sides: &'w [Warm],
}

impl<'w> Need<'w> {
    pub(super) fn of(measured: &Warm, runs: u32, lead_in: u32, sides: &'w [Warm]) -> Self {
        let runs = (runs + lead_in) as usize;
        Need {
            operations: runs * measured.operations + marks_of(sides.len()),
            submit_s: runs as f64 * measured.submit_s,
            sides,
        }
    }

    pub(super) fn with(mut self, background: &[u32]) -> Self {
        for (side, times) in self.sides.iter().zip(background) {
            self.operations += (*times as usize + 1) * side.operations;
            self.submit_s += f64::from(*times + 1) * side.submit_s;
        }
        self
    }

    /// With `times` as long a head start.
    pub(super) fn patient(mut self, times: f64) -> Self {
        self.submit_s *= times;
        self
    }

    pub(super) fn hold(&self, may_be_held: bool) -> Hold {
        match (may_be_held, self.operations <= MOST_BEHIND_A_LATCH) {
            (false, _) => Hold::Nothing,
            (true, true) => Hold::Latch,
            // twice the submission as it took in the warm-up, and what the marks take
            (true, false) => Hold::HeadStart((20e-6 + 2.0 * self.submit_s).min(MOST_HEAD_START_S)),
        }
    }
}

/// The latch, the two events, and of each background its wait, its two events and the wait for it.
fn marks_of(sides: usize) -> usize {
    3 + 4 * sides + usize::from(sides > 0)
}

/// The most measured runs: behind a latch if one fits there, after a head start otherwise.
pub(super) fn most_runs(measured: &Warm, lead_in: u32, sides: usize) -> usize {
    let one = measured.operations.max(1);
    let behind_a_latch = (MOST_BEHIND_A_LATCH - marks_of(sides)) / one;
    match behind_a_latch.saturating_sub(lead_in as usize) {
        0 => measured.most(),
        most => most,
    }
}
