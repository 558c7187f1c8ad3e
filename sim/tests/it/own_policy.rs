//! The example of a policy from outside the library, run as a newcomer would run it: the same code, checked.

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

#[test]
fn the_example_s_policy_is_short() {
    let source = include_str!("../../examples/own_policy.rs");
    let from = source.find("struct LongestFirst").expect("the policy");
    let to = source.find("/// The demo's OrbitFlow").expect("what follows it");
    assert!(source[from..to].lines().count() <= 50);
}
