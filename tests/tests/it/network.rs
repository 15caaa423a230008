//! A coordinator and clients whose processes, disks, clocks and lines fail: what was acknowledged is never lost, what was spent is
//! never spent again, and the next round works. Must never look into a process where the disk or the wire can be looked at.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests stop where an assertion would")]

mod brittle;
mod clients;
mod discovery;
mod faults;
mod full;
mod kills;
mod laptop;
mod life;
mod line;
mod machine;
mod premises;
mod processes;
mod restart;
mod shortage;
mod slow;
mod stale;
mod sum;
mod world;
