//! The text of `report.md`.

use std::fmt::Write as _;

use orbitflow_sim::cost::HardwareProfile;
use orbitflow_sim::cost::profile::{CopyDirection, LinkDirection, Positive, Validation, ValidationSummary};
use orbitflow_sim::plot::words;

use super::{Subject, capital};
use orbitflow_sim::cost::{TARGET_MEDIAN, TARGET_P95, TARGET_REGRET};

/// The report as Markdown; `figures` are the names below `plots/`.
pub fn markdown(subject: &Subject<'_>, figures: &[&str]) -> String {
    let mut text = String::new();
    head(&mut text, subject);
    verdict(&mut text, subject);
    for name in figures {
        let _ = writeln!(text, "![{name}](plots/{name}.svg)\n");
    }
    link(&mut text, subject.profile);
    compute(&mut text, subject.profile);
    contention(&mut text, subject.profile);
    fits(&mut text, subject);
    validation(&mut text, subject);
    checks(&mut text, subject.profile);
    gaps(&mut text, subject);
    environment(&mut text, subject);
    text
}

fn head(text: &mut String, subject: &Subject<'_>) {
    let profile = subject.profile;
    let _ = writeln!(text, "# {}: what gpu-validate found\n", profile.device.name);
    if let Some(disclaimer) = subject.backend.disclaimer() {
        let _ = writeln!(text, "**{}.**\n", capital(disclaimer));
    }
    let _ = writeln!(text, "{}\n", profile.provenance.summary);
}

/// The answer first: can it be trusted, how far off are predictions, and for what it may be used.
fn verdict(text: &mut String, subject: &Subject<'_>) {
    let profile = subject.profile;
    let _ = writeln!(text, "## In short\n");
    let _ = writeln!(text, "* The profile's numbers are: {}.", profile.standing());
    let (passed, failed, waived) = count_checks(profile);
    let _ =
        writeln!(text, "* Correctness: {passed} checks passed, {failed} failed, {waived} not possible here.");
    match profile.validation.as_ref().and_then(|validation| validation.summary.as_ref()) {
        None => {
            let _ = writeln!(text, "* Predicted steps were not compared with measured ones.");
        }
        Some(summary) => {
            for (name, value, target) in targets(summary) {
                let verdict = match value {
                    None => "not known".to_owned(),
                    Some(value) if value <= target => format!("{}: within the target", percent(value)),
                    Some(value) => format!("{}: **misses the target**", percent(value)),
                };
                let _ = writeln!(text, "* {name} {verdict} of {}.", percent(target));
            }
        }
    }
    for warning in subject.warnings {
        let _ = writeln!(text, "* Warning: {warning}");
    }
    let _ = writeln!(text, "\n## What the profile may be used for\n\n{}\n", use_of(subject));
}

/// What is promised of a validation (issue 3.5), as name, value, target.
fn targets(summary: &ValidationSummary) -> [(&'static str, Option<f64>, f64); 3] {
    [
        ("Median error of a predicted step", summary.median_abs, TARGET_MEDIAN),
        ("95th percentile of the error", summary.p95_abs, TARGET_P95),
        ("Regret of the predicted best placement", summary.regret, TARGET_REGRET),
    ]
}

/// The one paragraph that every report must have.
fn use_of(subject: &Subject<'_>) -> String {
    if let Some(disclaimer) = subject.backend.disclaimer() {
        return format!(
            "For nothing but tests of the programs: {disclaimer}. It shows that the experiments, the fits, the slots and \
             waits of the decode pipeline, the files and this report work end to end. No number in it may be used for a \
             statement about a GPU, a link or a serving system."
        );
    }
    let profile = subject.profile;
    let models: Vec<&str> = profile.compute.model_shapes.iter().map(|shape| shape.model.as_str()).collect();
    let standing = if profile.is_measured() {
        "Its numbers may be called measured."
    } else {
        "Its numbers may NOT be called measured: not every correctness check passed."
    };
    let accuracy = match profile.validation.as_ref().and_then(|validation| validation.summary.as_ref()) {
        Some(ValidationSummary { median_abs: Some(median), p95_abs: Some(p95), .. }) => format!(
            "Predicted decode steps of this pipeline were off by {} in the median and {} at the 95th percentile",
            percent(*median),
            percent(*p95)
        ),
        _ => "How far its predicted steps are off is not known".to_owned(),
    };
    format!(
        "For simulating decode steps of {} on this GPU, this link and this host, with KV streamed layer by layer in the \
         granularities listed. {standing} {accuracy}; beyond the contexts and batches listed below it extrapolates. It \
         describes our own kernels and cuBLAS, not a serving engine: an engine adds scheduling and Python time per step \
         (published engine fits are several times slower), so absolute times are a floor for an engine, and comparisons \
         between placements carry over only where copies or memory traffic decide. Prefill is the measured matrix rate \
         with an attention term from elsewhere (named below). Another GPU, host, driver or NUMA placement needs its own run.",
        if models.is_empty() { "no model".to_owned() } else { models.join(", ") }
    )
}

fn link(text: &mut String, profile: &HardwareProfile) {
    let _ = writeln!(
        text,
        "## Link\n\nBytes moved in the named direction over time; GB/s is 10⁹ bytes per second.\n"
    );
    let _ = writeln!(
        text,
        "| direction | way | memory | rate, large (GB/s) | 95 % | rate, small (GB/s) | knee | latency | CPU per piece | \
         engine per piece | median / largest residual |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut row = |direction: &str, granularity: &str, line: &LinkDirection| {
        let fit = line.fit.clone().unwrap_or_default();
        let interval = fit.ci95.get("bw_inf_bytes_per_s").map_or("–".to_owned(), |[low, high]| {
            format!("{}–{}", words::number(low / 1e9), words::number(high / 1e9))
        });
        let way = match (line.api.as_deref(), granularity) {
            (Some(api), "") => api.to_owned(),
            (Some(api), granularity) => format!("{api} ({granularity})"),
            (None, granularity) => granularity.to_owned(),
        };
        let _ = writeln!(
            text,
            "| {direction} | {way} | {} | {} | {interval} | {} | {} | {} | {} | {} | {} / {} |",
            line.mem.as_deref().unwrap_or("–"),
            words::number(line.bw_inf_bytes_per_s.get() / 1e9),
            line.bw_small_bytes_per_s.map_or("–".to_owned(), |rate| words::number(rate.get() / 1e9)),
            line.knee_bytes.map_or("–".to_owned(), |bytes| format!("{} B", bytes.get())),
            seconds(line.latency_s),
            seconds(line.submit_s_per_desc),
            seconds(line.engine_s_per_desc),
            fit.med_rel_err.map_or("–".to_owned(), percent),
            fit.max_rel_err.map_or("–".to_owned(), percent),
        );
    };
    row("H2D (used)", "", &profile.link.h2d);
    if let Some(d2h) = &profile.link.d2h {
        row("D2H (used)", "", d2h);
    }
    for fit in &profile.link.fits {
        let direction = match fit.direction {
            CopyDirection::H2d => "H2D",
            CopyDirection::D2h => "D2H",
        };
        row(direction, &fit.granularity, &fit.line);
    }
    if let Some(pageable) = &profile.link.pageable {
        row("H2D", "", pageable);
    }
    if let Some(bidir) = &profile.link.bidir {
        let factor =
            |factor: Option<Positive>| factor.map_or("–".to_owned(), |factor| words::number(factor.get()));
        let _ = writeln!(
            text,
            "\nWith both directions busy, the rate over the rate alone: H2D {}, D2H {}.",
            factor(bidir.h2d_factor),
            factor(bidir.d2h_factor)
        );
    }
    let _ = writeln!(text);
}

fn compute(text: &mut String, profile: &HardwareProfile) {
    let _ = writeln!(text, "## Compute\n");
    if let Some(hbm) = &profile.hbm {
        let rate =
            |rate: Option<Positive>| rate.map_or("–".to_owned(), |rate| words::number(rate.get() / 1e9));
        let _ = writeln!(
            text,
            "GPU memory: {} GB/s reading, {} GB/s copying (bytes read plus bytes written).\n",
            rate(hbm.read_bytes_per_s),
            rate(hbm.copy_rw_bytes_per_s)
        );
    }
    let read = profile.hbm.as_ref().and_then(|hbm| hbm.read_bytes_per_s);
    for shape in &profile.compute.model_shapes {
        let _ = writeln!(text, "### {}\n", shape.model);
        let table = |table: &std::collections::BTreeMap<u32, Positive>| {
            let entries: Vec<String> =
                table.iter().map(|(batch, s)| format!("{batch}: {}", words::seconds(s.get()))).collect();
            if entries.is_empty() { "–".to_owned() } else { entries.join(", ") }
        };
        let _ = writeln!(
            text,
            "* Matrices of one layer, by requests: {}.",
            table(&shape.layer_weights_s_by_batch)
        );
        let _ = writeln!(text, "* Output head, by requests: {}.", table(&shape.lm_head_s_by_batch));
        let share = read.map_or(String::new(), |read| {
            format!(" ({} of the measured reading rate)", percent(shape.attn.bytes_per_s.get() / read.get()))
        });
        let _ = writeln!(
            text,
            "* Attention of one layer: at least {}, else {} + KV bytes at {} GB/s{share}.",
            seconds(shape.attn.floor_s),
            seconds(shape.attn.c_s),
            words::number(shape.attn.bytes_per_s.get() / 1e9)
        );
        let _ = writeln!(
            text,
            "* The rest of a layer: {}; the rest of a step: {}.",
            seconds(shape.layer_other_s),
            seconds(shape.step_fixed_s)
        );
        if let Some(affine) = &shape.affine {
            let _ = writeln!(
                text,
                "* As one line in context tokens: {:.3e} s per token + {}, R² {}.",
                affine.a_s_per_token.get(),
                words::seconds(affine.b_s.get()),
                affine.r2.map_or("–".to_owned(), |r2| format!("{r2:.3}"))
            );
        }
        if let Some(fit) = &shape.attn.fit {
            let _ = writeln!(
                text,
                "* Attention fit: {} points, median residual {}, largest {}, largest context left out {}.",
                fit.n.map_or(0, |n| n.get()),
                fit.med_rel_err.map_or("–".to_owned(), percent),
                fit.max_rel_err.map_or("–".to_owned(), percent),
                fit.loo_rel_err.map_or("–".to_owned(), percent)
            );
        }
        let _ = writeln!(text);
    }
    for shape in profile.prefill.iter().flat_map(|prefill| &prefill.model_shapes) {
        let entries: Vec<String> = (shape.s_by_prompt_tokens.iter())
            .map(|(tokens, s)| format!("{}: {}", words::number(f64::from(*tokens)), words::seconds(s.get())))
            .collect();
        let _ = writeln!(
            text,
            "Prefill of {}, by prompt tokens: {}. Matrices measured; attention: {}.\n",
            shape.model,
            entries.join(", "),
            shape.attention.as_deref().unwrap_or("not said")
        );
    }
}

fn contention(text: &mut String, profile: &HardwareProfile) {
    let Some(contention) = &profile.contention else { return };
    let _ = writeln!(
        text,
        "## Contention\n\nHow much longer the first takes while the second runs all the while; 1 is not at all.\n\n\
         | slowed by | factor |\n|---|---|"
    );
    for (key, factor) in contention.compute_slowdown.iter().chain(&contention.copy_slowdown) {
        let _ = writeln!(text, "| {} | {:.3} |", key.replace('|', " by "), factor.get());
    }
    let _ = writeln!(text);
}

fn fits(text: &mut String, subject: &Subject<'_>) {
    if subject.fits.is_empty() {
        return;
    }
    let _ = writeln!(text, "## Fits\n\nErrors are relative; every residual is in `fits.json`.\n");
    for line in subject.fits {
        let _ = writeln!(text, "* {line}");
    }
    let _ = writeln!(text);
}

fn validation(text: &mut String, subject: &Subject<'_>) {
    let Some(validation) = &subject.profile.validation else { return };
    let _ = writeln!(text, "## Predicted against measured decode steps\n");
    let hash = validation.predictions_sha256.as_deref().unwrap_or("not recorded");
    let _ = writeln!(
        text,
        "Predictions were written before the first step ran; `predictions.json` has SHA-256 `{hash}`. Errors are \
         (predicted − measured) / measured.\n"
    );
    if let Some(summary) = &validation.summary {
        errors(text, summary);
    }
    for line in subject.findings {
        let _ = writeln!(text, "* {line}");
    }
    let _ = writeln!(text);
    cases(text, validation);
}

fn errors(text: &mut String, summary: &ValidationSummary) {
    let share = |value: Option<f64>| value.map_or("–".to_owned(), percent);
    let _ = writeln!(text, "| | median | 95th percentile | mean signed |\n|---|---|---|---|");
    let _ = writeln!(
        text,
        "| all cases | {} | {} | {} |",
        share(summary.median_abs),
        share(summary.p95_abs),
        share(summary.bias)
    );
    if let Some(held) = &summary.heldout {
        let _ = writeln!(
            text,
            "| {} (no fit saw its steps) | {} | {} | {} |",
            held.model,
            share(held.median_abs),
            share(held.p95_abs),
            share(held.bias)
        );
    }
    for (band, median) in &summary.by_rho {
        let _ = writeln!(text, "| ρ {band} | {} | | |", percent(*median));
    }
    for (baseline, median) in &summary.by_baseline {
        let _ = writeln!(text, "| instead: {} | {} | | |", baseline_words(baseline), percent(*median));
    }
    let _ = writeln!(
        text,
        "\nOrder of placements of one workload: Kendall's tau {}, regret of the predicted best {}.\n",
        summary.kendall_tau.map_or("–".to_owned(), |tau| format!("{tau:.2}")),
        share(summary.regret)
    );
}

fn baseline_words(key: &str) -> &str {
    match key {
        "bound" => "max(compute, copies)",
        "orbitflow" => "the published prefix formula",
        "affine" => "compute as one line in tokens",
        "no_contention" => "without contention",
        other => other,
    }
}

fn cases(text: &mut String, validation: &Validation) {
    let _ = writeln!(
        text,
        "| case | ρ | measured | IQR | predicted | error | max(compute, copies) | prefix formula |\n|---|---|---|---|---|---|---|---|"
    );
    for case in &validation.cases {
        let optional =
            |value: Option<Positive>| value.map_or("–".to_owned(), |value| words::seconds(value.get()));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:+.1} % | {} | {} |",
            case.id,
            words::number(case.rho),
            words::seconds(case.meas_s.median.get()),
            words::seconds(case.meas_s.iqr),
            words::seconds(case.pred_s.full.get()),
            100.0 * case.err_rel,
            optional(case.pred_s.bound),
            optional(case.pred_s.orbitflow)
        );
    }
    let _ = writeln!(text);
}

fn checks(text: &mut String, profile: &HardwareProfile) {
    if profile.checks.is_empty() {
        return;
    }
    let _ = writeln!(text, "## Correctness\n\n| check | worst | most that passes | |\n|---|---|---|---|");
    for check in &profile.checks {
        let verdict = match (check.waived, check.pass) {
            (true, _) => "not possible here",
            (false, true) => "pass",
            (false, false) => "**FAIL**",
        };
        let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2e}"));
        let note = check.note.as_deref().map_or(String::new(), |note| format!(": {note}"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {verdict}{note} |",
            check.name,
            number(check.worst_rel),
            number(check.bound)
        );
    }
    let _ = writeln!(text);
}

fn gaps(text: &mut String, subject: &Subject<'_>) {
    let profile = subject.profile;
    if !subject.measurements.dropped.is_empty() {
        let _ = writeln!(text, "## What was left out\n");
        for dropped in &subject.measurements.dropped {
            let _ = writeln!(text, "* {} {}: {}", dropped.experiment, dropped.what, dropped.reason);
        }
        let _ = writeln!(text);
    }
    if !profile.missing.is_empty() {
        let _ = writeln!(text, "## What the profile does not know\n");
        for (path, reason) in &profile.missing {
            let _ = writeln!(text, "* `{path}`: {reason}");
        }
        let _ = writeln!(text);
    }
}

fn environment(text: &mut String, subject: &Subject<'_>) {
    let profile = subject.profile;
    let (device, provenance) = (&profile.device, &profile.provenance);
    let host = provenance.host.clone().unwrap_or_default();
    let _ = writeln!(text, "## Environment\n\n| | |\n|---|---|");
    let mut row = |name: &str, value: Option<String>| {
        let _ = writeln!(text, "| {name} | {} |", value.unwrap_or_else(|| "not known".to_owned()));
    };
    row("backend", Some(subject.backend.key().to_owned()));
    row("command", Some(provenance.argv.join(" ")));
    row("when", provenance.utc.clone());
    row("took", provenance.duration_s.map(|s| words::seconds(s.get())));
    row("version", provenance.tool_version.clone());
    row("commit", provenance.git_commit.clone());
    row("seed", provenance.seed.map(|seed| seed.to_string()));
    row("driver", device.driver.clone());
    row("CUDA of the driver", device.cuda_driver_api.map(|version| version.to_string()));
    row("NVRTC", device.nvrtc.clone());
    row("cuBLAS", device.cublas.clone());
    row("compute capability", device.sm.clone());
    row("multiprocessors", device.sm_count.map(|count| count.to_string()));
    row("ECC", device.ecc.map(|on| if on { "on" } else { "off" }.to_owned()));
    row("MIG", device.mig.map(|on| if on { "on" } else { "off" }.to_owned()));
    row(
        "PCIe under load",
        device.pcie.as_ref().map(|pcie| {
            let number =
                |value: Option<std::num::NonZeroU32>| value.map_or("?".to_owned(), |value| value.to_string());
            format!(
                "gen {} of {}, {} of {} lanes",
                number(pcie.gen_cur_loaded),
                number(pcie.gen_max),
                number(pcie.width_cur),
                number(pcie.width_max)
            )
        }),
    );
    row("CPU", host.cpu);
    row("cores", host.cores.map(|cores| cores.to_string()));
    row("memory (GiB)", host.mem_gib.map(|gib| words::number(gib.get())));
    row("kernel", host.kernel);
    row("hypervisor", host.hypervisor);
    row("NUMA node of the GPU", host.numa_node.map(|node| node.to_string()));
    row("huge pages", host.hugepages);
}

fn count_checks(profile: &HardwareProfile) -> (usize, usize, usize) {
    let count = |wanted: fn(&orbitflow_sim::cost::profile::Check) -> bool| {
        profile.checks.iter().filter(|check| wanted(check)).count()
    };
    (
        count(|check| !check.waived && check.pass),
        count(|check| !check.waived && !check.pass),
        count(|check| check.waived),
    )
}

fn seconds(value: Option<Positive>) -> String {
    value.map_or("–".to_owned(), |value| words::seconds(value.get()))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
