//! A fleet of which too few may take part: the operator is told why. Must never wait in silence.

use super::world::{CLIENTS, World, settings, task};

#[test]
fn a_fleet_that_has_to_rest_is_counted() {
    let mut rules = settings();
    rules.eligibility.separation = 2;
    let mut world = World::of(41, rules);
    assert!(world.round(1, &mut |_| ()).committed);
    let shortage = |world: &World| {
        world.life().handle.board().borrow().tasks[&task()].status.shortage.clone().unwrap_or_default()
    };
    for _ in 0..100 {
        for place in 0..CLIENTS {
            world.act(place);
        }
        world.wait();
        if !shortage(&world).is_empty() {
            break;
        }
    }
    let said = shortage(&world);
    let wanted = format!("of {CLIENTS} clients that wait, {CLIENTS} took part less than 2 rounds ago");
    assert!(said.contains(&wanted), "{said:?}");
}
