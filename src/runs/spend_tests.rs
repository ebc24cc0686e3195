//! Tests of the accounts of agents.

use proptest::prelude::*;

use super::*;

const PRICES: Prices = Prices { input: 3.0, output: 15.0 };

fn account(lines: &[&str]) -> Account {
    let mut account = Account::default();
    lines.iter().for_each(|line| account.take(line.as_bytes()));
    account
}

fn spent(lines: &[&str]) -> Spent {
    account(lines).spent(false, &PRICES)
}

const MESSAGE: &str = r#"{"type":"assistant","message":{"id":"m1","usage":{"input_tokens":10,"cache_creation_input_tokens":1000,"cache_read_input_tokens":5000,"output_tokens":1}}}"#;
const MESSAGE_GROWN: &str = r#"{"type":"assistant","message":{"id":"m1","usage":{"input_tokens":10,"cache_creation_input_tokens":1000,"cache_read_input_tokens":5000,"output_tokens":200}}}"#;
const SECOND: &str =
    r#"{"type":"assistant","message":{"id":"m2","usage":{"input_tokens":5,"output_tokens":40}}}"#;
const RESULT: &str = r#"{"type":"result","total_cost_usd":0.25,"usage":{"input_tokens":15,"cache_creation_input_tokens":1000,"cache_read_input_tokens":5000,"output_tokens":300}}"#;

#[test]
fn claude_is_estimated_by_its_messages_until_it_says_what_it_cost() {
    let so_far = spent(&["{\"type\":\"system\"}", MESSAGE, MESSAGE_GROWN, MESSAGE, SECOND]);
    assert_eq!((so_far.input_tokens, so_far.output_tokens), (15, 240), "a message counts once");
    assert_eq!((so_far.cache_creation_tokens, so_far.cache_read_tokens), (1_000, 5_000));
    assert_eq!(so_far.tokens(), 15 + 1_000 + 240, "what is read from the cache does not count");
    // 15 × 3 + 1000 × 3.75 + 5000 × 0.3 + 240 × 15 millionths.
    assert_eq!((so_far.usd_micro, so_far.estimated_micro), (8_895, 8_895));
    assert_eq!(so_far.cut_calls, 1, "cut off here, it would be a lower bound");

    let said = spent(&[MESSAGE_GROWN, SECOND, RESULT]);
    assert_eq!((said.usd_micro, said.estimated_micro, said.cut_calls), (250_000, 0, 0));
    assert_eq!(said.output_tokens, 300);
}

#[test]
fn codex_says_tokens_for_each_turn_and_no_cost() {
    let turn = r#"{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":60,"output_tokens":7}}"#;
    let one = spent(&[turn]);
    assert_eq!((one.input_tokens, one.cache_read_tokens, one.output_tokens), (40, 60, 7));
    assert_eq!(one.usd_micro, one.estimated_micro);
    assert_eq!(one.cut_calls, 0);
    let written = r#"{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":60,"cache_write_input_tokens":30}}"#;
    let one = spent(&[written]);
    assert_eq!((one.input_tokens, one.cache_read_tokens, one.cache_creation_tokens), (10, 60, 30));
    assert_eq!(spent(&[turn, turn]).output_tokens, 14);
}

/// What real programs wrote: `tests/agents/README.md`.
#[test]
fn recorded_streams_are_counted_as_their_programs_count() {
    let of = |stream: &str| spent(&stream.lines().collect::<Vec<_>>());
    let claude = of(include_str!("../../tests/agents/streams/claude-done.jsonl"));
    let codex = of(include_str!("../../tests/agents/streams/codex-done.jsonl"));
    for one in [claude, codex] {
        assert_eq!((one.input_tokens, one.output_tokens, one.cut_calls), (122, 43, 0));
        assert_eq!((one.cache_read_tokens, one.cache_creation_tokens), (5300, 300));
    }
    assert_eq!((claude.usd_micro, claude.estimated_micro), (3908, 0));
    assert_eq!(codex.usd_micro, codex.estimated_micro);
    // Its last line tells 40,000 of the 60,000 that its messages tell: the last one is left out.
    let stopped = of(include_str!("../../tests/agents/streams/claude-budget.jsonl"));
    assert_eq!((stopped.input_tokens, stopped.usd_micro), (60_000, 300_000));
    // Who failed before its first figure has told nothing, and ended all the same.
    let cut: Vec<&str> =
        include_str!("../../tests/agents/streams/codex-cut.jsonl").lines().collect();
    let cut = account(&cut).spent(true, &PRICES);
    assert_eq!((cut.agent_calls, cut.input_tokens, cut.cut_calls), (1, 0, 0));
}

#[test]
fn a_command_says_all_so_far_as_often_as_it_likes() {
    let first = r#"{"usage": {"cost_usd": 0.5, "input_tokens": 10}}"#;
    let second = r#"{"usage": {"cost_usd": 0.75, "input_tokens": 30, "cache_read_tokens": 3}}"#;
    let account = account(&["working", first, "more", second]);
    let open = account.spent(false, &PRICES);
    assert_eq!((open.usd_micro, open.input_tokens, open.cache_read_tokens), (750_000, 30, 3));
    assert_eq!((open.estimated_micro, open.cut_calls), (0, 1));
    assert_eq!(account.spent(true, &PRICES).cut_calls, 0, "somebody recorded its end");
}

#[test]
fn what_is_no_figure_counts_nothing() {
    for line in [
        "",
        "{",
        r#"{"usage":3}"#,
        r#"{"usage":{"input_tokens":-5,"output_tokens":"x","cost_usd":-1}}"#,
        r#"{"usage":{"input_tokens":1e300,"cost_usd":1e9}}"#,
        r#"{"type":"user","message":{"usage":{"input_tokens":5}}}"#,
        r#"{"type":"assistant","usage":{"input_tokens":5}}"#,
        r#"["usage"]"#,
    ] {
        let none = spent(&[line]);
        assert_eq!((none.tokens(), none.usd_micro), (0, 0), "{line}");
    }
    assert_eq!(micros(f64::NAN), 0);
    assert_eq!(micros(-1.0), 0);
}

#[test]
fn the_scripts_own_account_is_a_floor() {
    let seen = Spent { usd_micro: 100, input_tokens: 5, ..Spent::default() };
    let told = Usage { cost_usd: 1.0, input_tokens: 3, ..Usage::default() };
    let both = seen.at_least(&told);
    assert_eq!((both.usd_micro, both.input_tokens), (1_000_000, 5));
}

fn any_spent() -> impl Strategy<Value = Spent> {
    let n = 0..1_000_000_i64;
    (n.clone(), n.clone(), n.clone(), n.clone(), n.clone(), 0..=100_i64).prop_map(
        |(calls, input, output, cached, usd, share)| Spent {
            agent_calls: calls % 50,
            cut_calls: 0,
            input_tokens: input,
            output_tokens: output,
            cache_read_tokens: cached,
            cache_creation_tokens: cached / 2,
            usd_micro: usd,
            estimated_micro: usd * share / 100,
        },
    )
}

/// Found by fuzzing: sums of such figures overflow in SQL, and then no budget can be looked at.
#[test]
fn no_stream_and_no_state_file_tells_more_than_can_be_added_up_for_years() {
    let most = i64::MAX / 1_000_000;
    let turn = r#"{"type":"turn.completed","usage":{"input_tokens":999999999999,"output_tokens":999999999999}}"#;
    let said = spent(&[turn; 50]);
    let dear = Prices { input: 1e9, output: 1e9 };
    let estimate = account(&[turn; 50]).spent(true, &dear).usd_micro;
    let file =
        Usage { agent_calls: i64::MAX, input_tokens: i64::MAX, cost_usd: 1e12, ..Usage::default() };
    for figure in [said.input_tokens, said.usd_micro, estimate] {
        assert!((1..most).contains(&figure), "{figure}");
    }
    let none = Spent::default();
    assert_eq!(none.at_least(&file), none, "such a figure is none");
    assert_eq!(Spent::of_usage(&Usage { output_tokens: -1, ..file }), none);
}

/// Found by reading for the fuzz target: each id was kept whole, and a line may have 8 MB.
#[test]
fn ids_of_messages_take_no_room() {
    let line = |id: &str| {
        format!(r#"{{"type":"assistant","message":{{"id":"{id}","usage":{{"output_tokens":1}}}}}}"#)
    };
    let long = "é".repeat(limits::AGENT_MESSAGE_ID_BYTES);
    let mut account = account(&[&line(&long), &line("b")]);
    account.take(line(&format!("{long}, and more")).as_bytes());
    assert_eq!(account.spent(false, &PRICES).output_tokens, 2);
    assert!(account.messages.keys().all(|id| id.len() <= limits::AGENT_MESSAGE_ID_BYTES));
}

/// Found by fuzzing: what was said became an estimate where less of it is seen again, and each look
/// took as much of it back. So it is after a crash, where the next try is written over a call that
/// had told its cost.
#[test]
fn what_was_said_is_no_estimate_because_less_of_it_is_seen() {
    let result = r#"{"type":"result","total_cost_usd":0.25,"usage":{"input_tokens":30}}"#;
    let other = r#"{"usage":{"input_tokens":30,"output_tokens":300}}"#;
    let said = spent(&[result]);
    let stored = settle(&Spent::default(), &Spent::default(), &said);
    let mut account = account(&[result, other]);
    account.take(b"{\"usage\":{}}");
    for seen in [account.spent(false, &PRICES), spent(&[MESSAGE]), spent(&[result, other])] {
        let mut looked = settle(&stored, &stored, &seen);
        for _ in 0..3 {
            looked = settle(&looked, &looked, &seen);
            assert_eq!((looked.usd_micro, looked.estimated_micro), (250_000, 0), "{seen:?}");
        }
    }
}

/// The rows of a run: one for each attempt and day.
fn sum(rows: &[Spent]) -> Spent {
    rows.iter().fold(Spent::default(), |sum, row| sum.plus(row))
}

proptest! {
    /// However often and wherever a look is stored, what is stored is what was seen: nothing is
    /// counted twice over restarts, retries and midnights, and nothing is lost.
    #[test]
    fn looks_that_grow_are_stored_exactly_once(
        steps in proptest::collection::vec((any_spent(), 0_usize..4, any::<bool>()), 1..12),
    ) {
        let mut rows = [Spent::default(); 4];
        let mut seen = Spent::default();
        let mut row = 0;
        for (more, next, twice) in steps {
            row = row.max(next);
            // Without estimates: figures that agents said.
            seen = seen.plus(&Spent { estimated_micro: 0, ..more });
            for _ in 0..=usize::from(twice) {
                rows[row] = settle(&sum(&rows), &rows[row], &seen);
            }
            prop_assert_eq!(sum(&rows), seen);
        }
    }

    /// An estimate gives way to what the agent says, up or down, within its attempt.
    #[test]
    fn the_last_word_replaces_the_estimate(before in any_spent(), guess in any_spent(), word in any_spent()) {
        let before = Spent { estimated_micro: 0, ..before };
        let guessed = before.plus(&Spent { estimated_micro: guess.usd_micro, ..guess });
        let mut rows = [before, Spent::default()];
        rows[1] = settle(&sum(&rows), &rows[1], &guessed);
        prop_assert_eq!(sum(&rows), guessed);
        let said = before.plus(&Spent { estimated_micro: 0, ..word });
        rows[1] = settle(&sum(&rows), &rows[1], &said);
        prop_assert_eq!(sum(&rows).usd_micro, said.usd_micro);
        prop_assert_eq!(sum(&rows).estimated_micro, 0);
        prop_assert_eq!(rows[0], before);
    }

    /// Streams that vanish, shrink or lie take nothing back of what was said, and no figure is ever
    /// negative.
    #[test]
    fn what_was_said_stays(looks in proptest::collection::vec((any_spent(), 0_usize..3), 1..12)) {
        let mut rows = [Spent::default(); 3];
        for (seen, row) in looks {
            let before = sum(&rows);
            rows[row] = settle(&before, &rows[row], &seen);
            let after = sum(&rows);
            prop_assert_eq!(settle(&after, &rows[row], &seen), rows[row], "a look twice is one");
            prop_assert!(after.tokens() >= before.tokens());
            prop_assert!(after.usd_micro >= before.usd_micro - before.estimated_micro);
            for row in rows {
                prop_assert!(row.usd_micro >= 0 && row.estimated_micro >= 0);
                prop_assert!(row.estimated_micro <= row.usd_micro);
            }
        }
    }

    #[test]
    fn any_line_is_taken(line in proptest::collection::vec(any::<u8>(), 0..80), json in "\\{\"(type|usage)\":[\\{\\}\"a-z_:0-9,.]{0,40}\\}") {
        let mut account = Account::default();
        account.take(&line);
        account.take(json.as_bytes());
        let spent = account.spent(false, &PRICES);
        prop_assert!(spent.usd_micro >= 0 && spent.tokens() >= 0);
    }
}
