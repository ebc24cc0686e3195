//! `adw_state.json`.

use adwd::runs::state_file::{AdwState, is_url};

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let Ok(state) = AdwState::parse(bytes) else { return };
    for key in ["adw_id", "issue_number", "branch_name", "worktree_path", "plan_file", "pr_url"] {
        assert!(state.text(key).is_none_or(|text| !text.is_empty() && !text.contains('\0')));
    }
    let _ = (state.flag("completed"), state.issue_title(), state.phase_status());
    assert!(state.pr_url().is_none_or(|url| is_url(&url)));
    let issues =
        |review: &serde_json::Value| review["review_issues"].as_array().map_or(0, Vec::len);
    if let Some(review) = state.last_review() {
        let told = &state.raw["last_review"];
        let told =
            told.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(told.clone());
        assert!(review.blockers <= issues(&told));
    }
    for part in ["total", "plan", "build"] {
        if let Some(usage) = state.usage(part) {
            assert!(usage.cost_usd.is_finite() && usage.agent_calls >= 0);
            let spent = adwd::runs::spend::Spent::default().at_least(&usage);
            assert!(spent.usd_micro >= 0 && spent.tokens() >= 0);
        }
        let _ = state.head_commit(part);
    }
    let _ = state.error();
    // What was read can be written, and reads the same; but for the last digit of long numbers,
    // which serde_json rounds on its way.
    let again = serde_json::to_vec(&state.raw).expect("JSON can be written");
    if let Ok(again) = AdwState::parse(&again) {
        assert!(again.raw.keys().eq(state.raw.keys()));
        assert_eq!(again.phase_status().len(), state.phase_status().len());
        assert_eq!(again.last_review(), state.last_review());
    }
    let _ = state.of_run("a1b2c3d4");
}
