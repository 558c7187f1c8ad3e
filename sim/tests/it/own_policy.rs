//! The example of a policy from outside the library, run as a newcomer would run it: the same code, checked.

use orbitflow_sim::model::Distance;

#[path = "../../examples/own_policy.rs"]
#[expect(dead_code, reason = "its `main` only prints what is looked at here")]
mod example;

#[test]
fn a_policy_from_outside_is_compared_on_equal_terms_and_breaks_no_law() {
    let comparison = example::comparison().expect("the demo runs");
    assert!(comparison.broken.is_empty(), "{:?}", comparison.broken);
    let policies = &comparison.saved.results.policies;
    let keys: Vec<&str> = policies.iter().map(|policy| policy.key.as_str()).collect();
    assert_eq!(keys, ["orbitflow", "static-1", "longest-first"]);
    for policy in policies {
        assert_eq!(policy.requests.arrived, 52, "{}", policy.key);
        assert_eq!(policy.tokens.due, policies[0].tokens.due, "{}", policy.key);
    }
    // It offloads, and it is a method of its own.
    let (fixed, own) = (&policies[1], &policies[2]);
    assert!(own.bytes.h2d_prefetch > 0);
    assert_ne!(own.event_digest, fixed.event_digest);
    assert_eq!(own.label, "Longest first");
}

/// Lines of code of the example, without comments and blank lines.
fn code() -> Vec<&'static str> {
    let source = include_str!("../../examples/own_policy.rs");
    source.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).collect()
}

#[test]
fn the_example_is_complete_in_40_lines_and_names_nothing_but_the_library_s_public_interface() {
    let code = code();
    assert!(code.len() <= 40, "{} lines", code.len());
    assert!(code.contains(&"fn main() -> anyhow::Result<()> {"));
    let uses = code.iter().filter(|line| line.starts_with("use "));
    assert!(uses.clone().count() >= 4);
    for line in uses {
        assert!(line.starts_with("use std::") || line.starts_with("use orbitflow_sim::"), "{line}");
    }
}

#[test]
fn the_table_that_the_example_prints_has_a_row_for_each_policy() {
    let comparison = example::comparison().expect("the demo runs");
    let table = orbitflow_sim::report::text(&comparison.saved.results);
    for key in ["orbitflow", "static-1", "longest-first"] {
        assert!(table.lines().any(|line| line.trim_start().starts_with(key)), "{key}: {table}");
    }
}

#[test]
fn the_example_offloads_every_second_layer_of_the_longest_and_of_no_more_than_it_must() {
    // 32 layers; requests of 200 and 300 blocks: whole they take are 16,000 of 12,800 layer-blocks. The longer one keeps 16 layers
    // and two charged slots: 16 · 300 + 2 · 300 + 32 · 200 = 11,800, which fit.
    let mut batch = crate::methods::batch(&[3200, 4800]);
    batch.server.gpu_blocks = 12_800;
    batch.server.switches = orbitflow_sim::server::ServerSwitches::PHYSICAL;
    let distances = batch.distances(&mut example::LongestFirst);
    assert_eq!(distances, [Distance::Resident, Distance::At(1)]);
    // With 16,000 both stay whole; with 11,799 both give up half.
    batch.server.gpu_blocks = 16_000;
    assert_eq!(batch.distances(&mut example::LongestFirst), [Distance::Resident; 2]);
    batch.server.gpu_blocks = 11_799;
    assert_eq!(batch.distances(&mut example::LongestFirst), [Distance::At(1); 2]);
}
