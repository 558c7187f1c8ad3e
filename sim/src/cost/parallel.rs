//! From the costs of one GPU to those of n GPUs that split one model (design §3.6).
//!
//! Sizes stay those of all GPUs together (a layer-block of Llama-3-8B is 65,536 B on however many GPUs), so splitting is
//! a change of rates, and nothing but this file knows of it. All GPUs do the same work in step: the slowest is every one.
//!
//! * **Own links.** A copy of `S` bytes is n copies of `S/n` at once, each over its own link: `latency + (S/n)/rate`, which
//!   is one link of rate `n·rate`. In pieces, every piece is split too (its heads are): as many pieces, each `1/n` as
//!   large, so the knee in bytes of all GPUs is `n·knee` and the small rate `n·small`. Submitting stays per piece: every
//!   GPU has its own thread.
//! * **Shared link.** n copies of `S/n` share `rate` evenly and their latencies overlap: `latency + (S/n)/(rate/n)` =
//!   `latency + S/rate`, as on one GPU. Pieces below the knee are held up by each GPU's own engine, so n engines together
//!   move them at `min(n·small, rate)`.
//! * **Compute.** Weights, tensor work and KV divide by n; what is not work (overhead, launches, floors, the rest of a
//!   layer) does not. A line `A·T + B₀` does not say which is which: both are divided, and the report says so.
//! * **All-reduce.** Two per layer (behind attention's output projection and behind the MLP), each over one row of
//!   `hidden` elements per token: `2·(latency + rows·hidden·element/rate)` per layer, if the profile knows them.
//!
//! Worked: two GPUs, Llama-3-8B, an all-reduce of 10 µs + bytes / 100 GB/s, 8 requests: `2·(10 + 8·4096·2/10⁵)` =
//! 21.311 µs per layer. A copy of 64 MiB at 10 GB/s and 5 µs takes 6.716 ms on one GPU and over a shared link, and
//! 3.360 ms over two links. Tests: `the_worked_copy_of_the_header`,
//! `an_all_reduce_is_two_per_layer_in_decode_and_prefill`; that one GPU is none of this, `one_gpu_is_no_tensor_parallelism`.

use super::profile::AllReduce;
use super::{
    ComputeModel, CostError, CostModel, HardwareProfile, LinkModel, MeasuredCompute, Pieces, PrefillModel,
};
use crate::model::{ModelSpec, TensorParallel};
use crate::units::{Bytes, BytesPerSec};

/// All-reduces per layer: behind attention's output projection, and behind the MLP.
const PER_LAYER: f64 = 2.0;

/// Seconds that the all-reduces of one layer take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerAllReduce {
    /// Whatever the batch.
    pub base_s: f64,
    /// Per row: a request of a decode step, a prompt token of a prefill step.
    pub per_row_s: f64,
}

impl LayerAllReduce {
    /// One GPU, or several whose profile does not say.
    pub const NONE: LayerAllReduce = LayerAllReduce { base_s: 0.0, per_row_s: 0.0 };

    fn of(known: &AllReduce, model: &ModelSpec) -> Self {
        let row = f64::from(model.hidden) * f64::from(model.weight_element_bytes);
        LayerAllReduce {
            base_s: PER_LAYER * known.latency_s.get(),
            per_row_s: PER_LAYER * row / known.bytes_per_s.get(),
        }
    }

    /// Seconds of one layer with `rows` rows.
    pub fn layer_s(self, rows: u64) -> f64 {
        self.base_s + self.per_row_s * rows as f64
    }
}

/// Splits `cost`, that of one GPU, and says in `notes` what is assumed. One GPU changes nothing and says nothing.
pub(super) fn split(
    profile: &HardwareProfile,
    model: &ModelSpec,
    parallel: TensorParallel,
    cost: CostModel,
    notes: &mut Vec<String>,
) -> Result<CostModel, CostError> {
    parallel.check(model)?;
    if parallel.is_none() {
        return Ok(cost);
    }
    refuse_split_profile(profile, parallel)?;
    notes.push(link_note(parallel, &cost.h2d));
    notes.push(compute_note(parallel, &cost.compute));
    notes.push(prefill_note(parallel, &cost.prefill));
    Ok(CostModel {
        compute: split_compute(cost.compute, parallel.gpus),
        h2d: split_link(&cost.h2d, parallel),
        d2h: split_link(&cost.d2h, parallel),
        prefill: split_prefill(cost.prefill, parallel.gpus),
        all_reduce: all_reduce(profile, model, parallel, notes),
        ..cost
    })
}

fn refuse_split_profile(profile: &HardwareProfile, parallel: TensorParallel) -> Result<(), CostError> {
    let together = profile.device.count.get();
    if together == 1 {
        return Ok(());
    }
    Err(CostError::WrongModel {
        device: profile.device.name.clone(),
        problem: format!(
            "its numbers describe {together} GPUs as a whole: `engine.tensor_parallel = {}` would split them again",
            parallel.gpus
        ),
        hint: Some(
            "leave `tensor_parallel` out: the split is in this profile's numbers; or take the profile of one GPU"
                .to_owned(),
        ),
    })
}

fn link_note(parallel: TensorParallel, h2d: &LinkModel) -> String {
    let (gpus, rate) = (parallel.gpus, h2d.rate.get() as f64 / 1e9);
    let link = if parallel.shared_link {
        format!("they share one host link of {rate:.2} GB/s: a copy takes latency + bytes/rate")
    } else {
        format!(
            "each copies its share over a link of its own of {rate:.2} GB/s: latency + (bytes/{gpus})/rate"
        )
    };
    format!(
        "tensor parallel: {gpus} GPUs, each with 1/{gpus} of the KV and weights of every layer; {link}; bytes and the \
         GPU KV pool are those of all of them"
    )
}

fn compute_note(parallel: TensorParallel, compute: &ComputeModel) -> String {
    let gpus = parallel.gpus;
    match compute {
        ComputeModel::Affine { .. } => format!(
            "tensor parallel: compute: both terms of the fitted line A·T + B0 are divided by {gpus} (assumed: B0 is work \
             that splits, none of it is fixed)"
        ),
        ComputeModel::Roofline { .. } => {
            format!(
                "tensor parallel: compute: weights, tensor work and KV divided by {gpus}, overhead is not"
            )
        }
        ComputeModel::Measured(_) => format!(
            "tensor parallel: compute: measured weights, output head and KV rate divided by {gpus} (assumed: matrices \
             1/{gpus} as large run as well); floors, constants and the rest of a layer are not"
        ),
    }
}

fn prefill_note(parallel: TensorParallel, prefill: &PrefillModel) -> String {
    let gpus = parallel.gpus;
    match prefill {
        PrefillModel::Linear { .. } => {
            format!("tensor parallel: prefill: the scenario's own line is taken as that of all {gpus} GPUs")
        }
        PrefillModel::Roofline { .. } => format!("tensor parallel: prefill: divided by {gpus}"),
        PrefillModel::Table(_) => {
            format!(
                "tensor parallel: prefill: the measured times are divided by {gpus} (assumed: all is work that splits)"
            )
        }
    }
}

fn all_reduce(
    profile: &HardwareProfile,
    model: &ModelSpec,
    parallel: TensorParallel,
    notes: &mut Vec<String>,
) -> LayerAllReduce {
    let Some(known) = &profile.all_reduce else {
        let why = profile.reason_for("all_reduce").map_or(String::new(), |reason| format!(": {reason}"));
        notes.push(format!("tensor parallel: all-reduce not known, none of its time is in the result{why}"));
        return LayerAllReduce::NONE;
    };
    notes.push(format!(
        "tensor parallel: two all-reduces per layer of {:.1} us + bytes / {:.1} GB/s ({})",
        known.latency_s.get() * 1e6,
        known.bytes_per_s.get() / 1e9,
        profile.standing()
    ));
    if known.gpus.get() != parallel.gpus {
        notes.push(format!(
            "warning: the profile's all-reduce is one of {} GPUs, taken for {}",
            known.gpus, parallel.gpus
        ));
    }
    LayerAllReduce::of(known, model)
}

/// The link of all GPUs, asked for bytes of all GPUs.
fn split_link(link: &LinkModel, parallel: TensorParallel) -> LinkModel {
    let full = times(link.rate, parallel.links());
    LinkModel {
        rate: full,
        pieces: link.pieces.map(|pieces| Pieces {
            knee: Bytes::new(pieces.knee.get().saturating_mul(u64::from(parallel.gpus))),
            small_rate: times(pieces.small_rate, parallel.gpus).min(full),
            ..pieces
        }),
        ..*link
    }
}

/// A rate beyond what a number holds is as good as the largest: what it moves takes no time.
fn times(rate: BytesPerSec, count: u32) -> BytesPerSec {
    BytesPerSec::try_from(rate.get().saturating_mul(u64::from(count)))
        .expect("Invariant: a multiple of a rate is a rate")
}

fn split_compute(compute: ComputeModel, gpus: u32) -> ComputeModel {
    let n = f64::from(gpus);
    match compute {
        ComputeModel::Affine { per_token_s, base_s } => {
            ComputeModel::Affine { per_token_s: per_token_s / n, base_s: base_s / n }
        }
        ComputeModel::Roofline { weights_s, flops_s_per_request, per_token_s, overhead_s } => {
            ComputeModel::Roofline {
                weights_s: weights_s / n,
                flops_s_per_request: flops_s_per_request / n,
                per_token_s: per_token_s / n,
                overhead_s,
            }
        }
        ComputeModel::Measured(measured) => ComputeModel::Measured(MeasuredCompute {
            layer_weights: measured.layer_weights.divided(n),
            lm_head: measured.lm_head.divided(n),
            attention_s_per_token: measured.attention_s_per_token / n,
            ..measured
        }),
    }
}

fn split_prefill(prefill: PrefillModel, gpus: u32) -> PrefillModel {
    let n = f64::from(gpus);
    match prefill {
        PrefillModel::Linear { .. } => prefill,
        PrefillModel::Roofline { per_token_s, per_token_squared_s, weights_s } => PrefillModel::Roofline {
            per_token_s: per_token_s / n,
            per_token_squared_s: per_token_squared_s / n,
            weights_s: weights_s / n,
        },
        PrefillModel::Table(table) => PrefillModel::Table(table.divided(n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::profile::Positive;
    use crate::cost::{CostOptions, preset, resolve};
    use crate::units::SimDuration;

    const OWN: TensorParallel = TensorParallel { gpus: 4, shared_link: false };
    const SHARED: TensorParallel = TensorParallel { gpus: 4, shared_link: true };

    fn rate(bytes_per_s: u64) -> BytesPerSec {
        BytesPerSec::try_from(bytes_per_s).unwrap()
    }

    fn nanos(nanos: u64) -> SimDuration {
        SimDuration::from_picos(nanos * 1000)
    }

    /// The slow twin: one of the GPUs alone, asked for its own bytes, its pieces cut by hand; `rate` and `small_rate`
    /// are what it gets of the link.
    fn one_gpu(link: &LinkModel, gpus: u64, rate: BytesPerSec, small_rate: Option<BytesPerSec>) -> LinkModel {
        let pieces = link.pieces.map(|pieces| Pieces {
            piece: pieces.piece.map(|piece| Bytes::new(piece.get() / gpus)),
            small_rate: small_rate.unwrap_or(rate),
            ..pieces
        });
        LinkModel { rate, pieces, ..*link }
    }

    #[test]
    fn a_split_copy_is_that_of_each_gpu_to_the_picosecond() {
        let latency = nanos(3000);
        let straight = LinkModel::line(latency, rate(50_000_000_000));
        // 2 GB/s below 28,000 B; 4 of them are 8 GB/s, below the shared 50. With 20 GB/s, 4 are 80: the link limits.
        let in_pieces = |piece: Option<u64>, small: u64| LinkModel {
            pieces: Some(Pieces {
                piece: piece.map(Bytes::new),
                knee: Bytes::new(28_000),
                small_rate: rate(small),
                submit: nanos(700),
                engine: nanos(900),
            }),
            ..straight
        };
        let links = [
            straight,
            in_pieces(None, 2_000_000_000),
            in_pieces(Some(65_536), 2_000_000_000),
            in_pieces(Some(65_536), 20_000_000_000),
            in_pieces(Some(131_072), 20_000_000_000),
        ];
        for link in links {
            let small = link.pieces.map(|pieces| pieces.small_rate);
            let shared_rate = rate(link.rate.get() / 4);
            let own = one_gpu(&link, 4, link.rate, small);
            let shared = one_gpu(&link, 4, shared_rate, small.map(|small| small.min(shared_rate)));
            for bytes in [4, 65_536, 3 * 65_536 + 4000, 561 * 65_536] {
                let own = own.copy_time(Bytes::new(bytes / 4));
                assert_eq!(split_link(&link, OWN).copy_time(Bytes::new(bytes)), own, "{link:?} {bytes} own");
                let shared = shared.copy_time(Bytes::new(bytes / 4));
                assert_eq!(
                    split_link(&link, SHARED).copy_time(Bytes::new(bytes)),
                    shared,
                    "{link:?} {bytes}"
                );
            }
        }
    }

    #[test]
    fn the_worked_copy_of_the_header() {
        let link = LinkModel::line(nanos(5000), rate(10_000_000_000));
        let copy = |gpus, shared_link| {
            split_link(&link, TensorParallel { gpus, shared_link }).copy_time(Bytes::new(64 << 20)).as_picos()
        };
        // 67,108,864 B / 10 GB/s = 6.7108864 ms; half of it over two links; 5 µs before either
        assert_eq!(
            (copy(1, false), copy(2, true), copy(2, false)),
            (6_715_886_400, 6_715_886_400, 3_360_443_200)
        );
    }

    fn resolved(profile: &HardwareProfile, parallel: TensorParallel) -> (CostModel, Vec<String>) {
        let model = crate::model::preset("llama-3-8b").unwrap();
        resolve(profile, &model, &CostOptions { parallel, ..CostOptions::default() }).unwrap()
    }

    #[test]
    fn an_all_reduce_is_two_per_layer_in_decode_and_prefill() {
        let mut profile = preset("roofline:h100-sxm").unwrap();
        let (alone, _) = resolved(&profile, TensorParallel { gpus: 2, shared_link: false });
        profile.all_reduce = Some(AllReduce {
            gpus: 2.try_into().unwrap(),
            latency_s: Positive::literal(10e-6),
            bytes_per_s: Positive::literal(100e9),
        });
        let (cost, notes) = resolved(&profile, TensorParallel { gpus: 2, shared_link: false });
        // 8 rows of 4096 · 2 B = 65,536 B at 100 GB/s = 0.65536 µs; 2 · (10 + 0.65536) = 21.31072 µs
        assert!((cost.all_reduce.layer_s(8) - 21.310_72e-6).abs() < 1e-15);
        assert!((cost.layer_compute_s(0, 8) - alone.layer_compute_s(0, 8) - 21.310_72e-6).abs() < 1e-12);
        assert!((cost.compute_s(0, 8) - alone.compute_s(0, 8) - 32.0 * 21.310_72e-6).abs() < 1e-12);
        // A prompt of 1000 tokens: 32 layers · 2 · (10 µs + 1000 · 8192 B / 100 GB/s = 81.92 µs) = 5.88288 ms
        let more = cost.prefill([1000]).as_secs_f64() - alone.prefill([1000]).as_secs_f64();
        assert!((more - 5.882_88e-3).abs() < 1e-11, "{more}");
        assert!(
            notes
                .iter()
                .any(|note| note.contains("two all-reduces per layer of 10.0 us + bytes / 100.0 GB/s"))
        );
        let (_, notes) = resolved(&profile, OWN);
        assert!(notes.iter().any(|note| note.contains("is one of 2 GPUs, taken for 4")), "{notes:?}");
    }

    #[test]
    fn weights_work_and_kv_halve_and_overhead_stays() {
        let mut profile = preset("roofline:h100-sxm").unwrap();
        profile.compute.datasheet.as_mut().unwrap().overhead_s = Some(Positive::literal(1e-3));
        profile.missing.remove("compute.datasheet.overhead_s");
        let (one, _) = resolved(&profile, TensorParallel::NONE);
        let (two, notes) = resolved(&profile, TensorParallel { gpus: 2, shared_link: true });
        for (tokens, requests) in [(0, 1), (100_000, 8), (0, 600)] {
            let halved = (one.compute_s(tokens, requests) - 1e-3) / 2.0 + 1e-3;
            assert!((two.compute_s(tokens, requests) / halved - 1.0).abs() < 1e-12, "{tokens} {requests}");
        }
        for prompt in [1, 8192] {
            let halved = one.prefill.step_s([prompt]) / 2.0;
            assert!((two.prefill.step_s([prompt]) / halved - 1.0).abs() < 1e-12, "{prompt}");
        }
        assert_eq!((two.h2d, two.d2h), (one.h2d, one.d2h), "the link is shared");
        let unknown = "tensor parallel: all-reduce not known, none of its time is in the result";
        assert!(notes.iter().any(|note| note.starts_with(unknown)), "{notes:?}");
    }
}
