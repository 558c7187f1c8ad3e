//! Every step of a run, handed on as it happens: what `steps.csv` is made of.
//!
//! Nothing is kept: a run of 10⁶ steps would take 170 MB. Knows nothing about files; whoever takes the steps does.

use crate::record::{Record, Sink, StepRecord};

/// A sink that calls `take` with every step.
#[derive(Clone, Debug)]
pub struct StepLog<F: FnMut(&StepRecord)> {
    take: F,
}

impl<F: FnMut(&StepRecord)> StepLog<F> {
    /// Hands every step to `take`, in order.
    pub fn new(take: F) -> Self {
        StepLog { take }
    }
}

impl<F: FnMut(&StepRecord)> Sink for StepLog<F> {
    fn record(&mut self, record: &Record<'_>) {
        if let Record::Step { step, .. } = record {
            (self.take)(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Script, ms};

    #[test]
    fn every_step_is_handed_on_once_and_in_order() {
        let mut script = Script::default();
        script.arrive(0);
        script.admit(0);
        script.prefill(ms(3), &[0]);
        script.decode(ms(1), &[0]);
        script.finish(0);
        let mut seen = Vec::new();
        script.replay(&mut StepLog::new(|step: &StepRecord| seen.push((step.index, step.duration))));
        assert_eq!(seen, [(0, ms(3)), (1, ms(1))]);
    }
}
