//! Which part of a sweep this process does: K of N, from the command line or from a cluster's environment (design §10).
//!
//! Slurm job arrays say it all: `SLURM_ARRAY_TASK_ID`, `_MIN`, `_STEP` and `_COUNT`. A Kubernetes Indexed Job says K as
//! `JOB_COMPLETION_INDEX`; N is not in its environment, so the job's manifest sets `JOB_COMPLETIONS` itself.

use std::str::FromStr;

/// Part K of N, K from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// K.
    pub index: usize,
    /// N.
    pub count: usize,
}

/// What is no part of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {value}: expected {expected}")]
pub struct BadShard {
    /// The flag or the variable.
    pub key: String,
    /// Its value, `absent` if there is none.
    pub value: String,
    /// What would be right.
    pub expected: &'static str,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// Whether there is one process.
    pub const fn is_whole(self) -> bool {
        self.count == 1
    }

    /// The points of this part, of `points` in all: every N-th, so that neighbours, which take alike long, spread.
    pub fn indices(self, points: usize) -> impl Iterator<Item = usize> {
        (self.index..points).step_by(self.count)
    }

    /// The file of its list of points.
    pub fn file_name(self) -> String {
        format!("shard-{}-of-{}.json", self.index, self.count)
    }

    /// What the environment of a cluster says, and in whose words; `None` outside of one.
    ///
    /// # Errors
    /// Variables that are no numbers, or that do not fit together.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(Shard, &'static str)>, BadShard> {
        let number = |key: &str, absent: Option<usize>| {
            let text = variable(key);
            let bad = || BadShard {
                key: key.to_owned(),
                value: text.clone().unwrap_or_else(|| "absent".to_owned()),
                expected: "a whole number",
            };
            match &text {
                None => absent.ok_or_else(bad),
                Some(text) => text.trim().parse::<usize>().map_err(|_| bad()),
            }
        };
        if variable("SLURM_ARRAY_TASK_ID").is_some() {
            let id = number("SLURM_ARRAY_TASK_ID", None)?;
            let least = number("SLURM_ARRAY_TASK_MIN", Some(0))?;
            let step = number("SLURM_ARRAY_TASK_STEP", Some(1))?.max(1);
            let count = number("SLURM_ARRAY_TASK_COUNT", None)?;
            let index = id.saturating_sub(least) / step;
            return Shard::checked(index, count, "SLURM_ARRAY_TASK_ID", id)
                .map(|shard| Some((shard, "Slurm")));
        }
        if variable("JOB_COMPLETION_INDEX").is_some() {
            let index = number("JOB_COMPLETION_INDEX", None)?;
            let count = number("JOB_COMPLETIONS", None)?;
            return Shard::checked(index, count, "JOB_COMPLETION_INDEX", index)
                .map(|shard| Some((shard, "Kubernetes")));
        }
        Ok(None)
    }

    fn checked(index: usize, count: usize, key: &str, value: usize) -> Result<Shard, BadShard> {
        if index < count {
            return Ok(Shard { index, count });
        }
        let expected = "one of as many as the array or the job has";
        Err(BadShard { key: key.to_owned(), value: value.to_string(), expected })
    }
}

impl FromStr for Shard {
    type Err = BadShard;

    fn from_str(text: &str) -> Result<Self, BadShard> {
        let expected = "K/N with K from 0 and less than N, for example 0/8";
        let bad = || BadShard { key: "--shard".to_owned(), value: text.to_owned(), expected };
        let (index, count) = text.split_once('/').ok_or_else(bad)?;
        let (index, count) = (index.parse().map_err(|_| bad())?, count.parse().map_err(|_| bad())?);
        if index < count { Ok(Shard { index, count }) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Result<Option<(Shard, &'static str)>, BadShard> {
        let find =
            |key: &str| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
        Shard::from_environment(find)
    }

    #[test]
    fn every_point_is_in_exactly_one_part() {
        for count in 1..6 {
            let mut all: Vec<usize> =
                (0..count).flat_map(|index| Shard { index, count }.indices(17)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..17).collect::<Vec<_>>(), "{count} parts");
        }
        assert_eq!(Shard { index: 4, count: 9 }.indices(3).count(), 0, "more parts than points");
    }

    #[test]
    fn a_part_is_written_k_of_n() {
        assert_eq!("2/8".parse(), Ok(Shard { index: 2, count: 8 }));
        for wrong in ["", "1", "8/8", "0/0", "-1/2", "a/b", "1/2/3"] {
            let error = wrong.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains("--shard") && error.contains("K/N"), "{error}");
        }
    }

    #[test]
    fn a_slurm_array_may_begin_anywhere_and_have_a_step() {
        // sbatch --array=10-25:5 has the tasks 10, 15, 20 and 25
        let array = [
            ("SLURM_ARRAY_TASK_ID", "20"),
            ("SLURM_ARRAY_TASK_MIN", "10"),
            ("SLURM_ARRAY_TASK_STEP", "5"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
        ];
        assert_eq!(environment(&array), Ok(Some((Shard { index: 2, count: 4 }, "Slurm"))));
        let error = environment(&array[..2]).unwrap_err().to_string();
        assert_eq!(error, "SLURM_ARRAY_TASK_COUNT: absent: expected a whole number");
        assert!(environment(&[("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_COUNT", "4")]).is_err());
    }

    #[test]
    fn an_indexed_job_must_say_how_many_it_is() {
        let job = [("JOB_COMPLETION_INDEX", "1"), ("JOB_COMPLETIONS", "3")];
        assert_eq!(environment(&job), Ok(Some((Shard { index: 1, count: 3 }, "Kubernetes"))));
        assert!(environment(&job[..1]).unwrap_err().to_string().starts_with("JOB_COMPLETIONS: absent"));
        assert!(environment(&[("JOB_COMPLETION_INDEX", "x"), ("JOB_COMPLETIONS", "3")]).is_err());
        assert_eq!(environment(&[]), Ok(None));
    }
}
