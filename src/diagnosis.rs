//! Why a sandbox did not start: where something around palisade refused, what that is, found by the probes of `doctor`.

use palisade_policies::Tier;
use palisade_runtime::probe::Survey;

use crate::failure::Failure;

/// What refuses namespaces here; none where they can be had.
pub fn refused_namespaces() -> Option<String> {
    if Survey::namespaces_work() {
        return None;
    }
    let survey = Survey::without_limits();
    let cause = survey.root_cause(Tier::NoCgroup);
    cause.map(|cause| cause.shown.clone())
}

/// The failure of a run, with the layer that blocks it and the cure, where there is one.
pub fn failure(error: &palisade_shim::Error) -> Failure {
    let plain = || Failure::new(error.to_string(), error.advice().unwrap_or_default());
    let refused = match error.first() {
        palisade_shim::Error::Runtime(error) => error.may_be_refused(),
        _ => false,
    };
    // Only a run that has failed is looked into: a start that works probes nothing.
    let survey = refused.then(Survey::without_limits);
    let cause = survey
        .as_ref()
        .and_then(|survey| survey.root_cause(Tier::NoCgroup));
    let alone = survey.as_ref().and_then(Survey::strongest) == Some(Tier::NoNamespace);
    let failure = cause.map_or_else(plain, |cause| {
        let less = if alone {
            "; --require no-namespace runs host and dir: with less, unless the policy forbids it"
        } else {
            ""
        };
        Failure::new(
            format!("{error}: blocked by {}", cause.shown),
            format!(
                "{}{less}; palisade doctor says what else is blocked",
                cause.cure
            ),
        )
    });
    failure.with_code(error.exit_code())
}
