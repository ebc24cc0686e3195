//! The checklist, check by check.

use super::*;
use proptest::prelude::*;

fn nothing(book: i64) -> Evidence {
    Evidence {
        book,
        total_books: 5,
        title: None,
        blurb_words: 0,
        keywords: 0,
        categories: 0,
        has_cover: false,
        ku: true,
        npe_series: None,
        scenes: 0,
        scenes_failed: 0,
        gauges: BTreeMap::new(),
        cliffhangers: Vec::new(),
        act_breaks: Vec::new(),
        words: None,
        passes: vec![PassStatus::Pending; 5],
        words_per_hour: None,
    }
}

fn ready(book: i64) -> Evidence {
    let gauges = [
        ("setup_payoff_unresolved", 0),
        ("emotional_beats_unvalidated", 0),
        ("continuity_critical_unresolved", 0),
        ("continuity_moderate_unacknowledged", 0),
        ("knowledge_conflicts", 0),
        ("timeline_conflicts", 0),
        ("opening_hook_rating", 850),
        ("inter_book_satisfaction", 800),
        ("inter_book_urgency", 900),
        ("finale_closure", 900),
        ("chapters_planned", 1_000),
        ("chapter_outlines_approved", 1_000),
        ("scenes_planned", 3_000),
        ("scenes_with_prose", 3_000),
    ];
    Evidence {
        title: Some("One".to_owned()),
        blurb_words: 200,
        keywords: 7,
        categories: 2,
        has_cover: true,
        npe_series: Some(8_500),
        scenes: 30,
        gauges: gauges.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        cliffhangers: (1..=10).map(|chapter| (chapter, 800)).collect(),
        words: Some(7_500_000),
        passes: vec![PassStatus::Complete; 5],
        ..nothing(book)
    }
}

fn codes(e: &Evidence) -> Vec<String> {
    judge(e).blockers.into_iter().map(|b| b.code).collect()
}

#[test]
fn a_book_of_which_nothing_is_known_passes_nowhere() {
    let verdict = judge(&nothing(1));
    assert_eq!(verdict.status, QaStatus::NotReady);
    let c = &verdict.categories;
    for category in [&c.npe, &c.continuity, &c.ku, &c.production, &c.metadata] {
        assert_eq!(category.status, CategoryStatus::Fail, "{}", category.message);
    }
    assert!(verdict.hours > 20.0);
}

#[test]
fn every_book_with_all_evidence_is_ready() {
    for book in 1..=5 {
        let verdict = judge(&ready(book));
        assert_eq!(verdict.status, QaStatus::Ready, "{:?}", verdict.blockers);
        assert_eq!(verdict.hours, 0.0);
        assert!(verdict.recommendations.is_empty() && verdict.warnings.is_empty());
    }
}

#[test]
fn thresholds_are_the_specifications() {
    let set = |name: &'static str, value: i64| {
        move |e: &mut Evidence| {
            e.gauges.insert(name.to_owned(), value);
        }
    };
    type Change = Box<dyn Fn(&mut Evidence)>;
    let cases: Vec<(&str, Change)> = vec![
        ("npe_series_below_80", Box::new(|e| e.npe_series = Some(7_999))),
        ("npe_scene_failed", Box::new(|e| e.scenes_failed = 1)),
        ("setup_payoff_unresolved", Box::new(set("setup_payoff_unresolved", 100))),
        ("continuity_critical_unresolved", Box::new(set("continuity_critical_unresolved", 100))),
        ("knowledge_conflicts", Box::new(set("knowledge_conflicts", 100))),
        ("opening_hook_rating", Box::new(set("opening_hook_rating", 799))),
        ("inter_book_urgency", Box::new(set("inter_book_urgency", 950))),
        ("inter_book_satisfaction", Box::new(set("inter_book_satisfaction", 650))),
        ("cliffhanger_below_5", Box::new(|e| e.cliffhangers[3].1 = 450)),
        ("words_below_minimum", Box::new(|e| e.words = Some(7_499_900))),
        ("scenes_with_prose", Box::new(set("scenes_with_prose", 2_900))),
        ("chapter_outlines_approved", Box::new(set("chapter_outlines_approved", 900))),
        ("pass_incomplete", Box::new(|e| e.passes[4] = PassStatus::InProgress)),
        ("title_missing", Box::new(|e| e.title = Some(" ".to_owned()))),
        ("blurb_length", Box::new(|e| e.blurb_words = 149)),
        ("blurb_length", Box::new(|e| e.blurb_words = 301)),
        ("keywords_missing", Box::new(|e| e.keywords = 6)),
        ("categories_missing", Box::new(|e| e.categories = 1)),
        ("cover_missing", Box::new(|e| e.has_cover = false)),
    ];
    for (code, change) in cases {
        let mut e = ready(1);
        change(&mut e);
        assert_eq!(codes(&e), [code]);
    }
    let mut last = ready(5);
    last.gauges.insert("finale_closure".to_owned(), 899);
    assert_eq!(codes(&last), ["finale_closure"]);
}

#[test]
fn ninety_per_cent_of_the_chapters_must_hang() {
    let mut e = ready(1);
    e.cliffhangers[0].1 = 600;
    let verdict = judge(&e);
    assert_eq!(verdict.status, QaStatus::Ready);
    assert_eq!(verdict.categories.ku.status, CategoryStatus::Warning);
    e.cliffhangers[1].1 = 600;
    assert_eq!(codes(&e), ["cliffhangers_below_90"]);
    e.cliffhangers.pop();
    assert_eq!(codes(&e), ["no_data", "cliffhangers_below_90"], "a chapter is not rated");
}

#[test]
fn a_skipped_pass_warns_and_a_book_elsewhere_needs_no_cliffhangers() {
    let mut e = ready(2);
    e.passes[2] = PassStatus::Skipped;
    e.ku = false;
    e.cliffhangers.clear();
    let verdict = judge(&e);
    assert_eq!(verdict.status, QaStatus::Ready);
    assert_eq!(verdict.categories.production.status, CategoryStatus::Warning);
    assert_eq!(verdict.categories.ku.status, CategoryStatus::NotApplicable);
    assert_eq!(verdict.warnings[0].code, "pass_skipped");
}

#[test]
fn recommendations_stand_in_the_order_of_work_and_hours_add_up() {
    let mut e = ready(1);
    e.keywords = 5;
    e.npe_series = Some(7_000);
    e.words = Some(7_400_000);
    e.words_per_hour = Some(500.0);
    e.gauges.insert("scenes_with_prose".to_owned(), 2_800);
    let verdict = judge(&e);
    let first: Vec<&str> =
        verdict.recommendations.iter().map(|r| r.split(' ').next().unwrap()).collect();
    assert_eq!(first, ["Complete", "Rework", "Write", "Add"]);
    // Two scenes 1.5, NPE 4, 1000 words at 500 an hour 2, two keywords 0.2.
    assert_eq!(verdict.hours, 7.7);
}

proptest! {
    #[test]
    fn ready_means_no_blockers_and_every_blocker_has_advice(
        npe in prop::option::of(0_i64..10_000), words in prop::option::of(0_i64..9_000_000),
        scenes in 0_i64..40, failed in 0_i64..3, blurb in 0_i64..400, ku: bool, book in 1_i64..=5,
    ) {
        let e = Evidence {
            npe_series: npe, words, scenes, scenes_failed: failed.min(scenes),
            blurb_words: blurb, ku, ..ready(book)
        };
        let verdict = judge(&e);
        prop_assert_eq!(verdict.status == QaStatus::Ready, verdict.blockers.is_empty());
        prop_assert_eq!(verdict.recommendations.len(), verdict.blockers.len());
        prop_assert!(verdict.blockers.iter().all(|b| b.estimated_hours.0 >= 0));
        prop_assert!(npe.is_some() || verdict.status == QaStatus::NotReady);
    }
}
