//! Systems on built kernels: every story on every generation, opened by kd and compared with what is true of it.

use kd_tests::lab::layout::GENERATIONS;
use kd_tests::lab::world::{Options, Story, World};

#[test]
fn every_story_is_told() {
    for g in GENERATIONS {
        for (story, name) in Story::ALL {
            let world = World::build(Options::of(g.name, story));
            assert!(world.threads.len() > 8, "{} {name}", g.name);
        }
    }
}
