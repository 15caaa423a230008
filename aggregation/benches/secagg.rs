//! Scratch profile.
#[path = "../tests/it/fleet.rs"]
#[allow(dead_code)]
mod fleet;
use fleet::*;
use std::time::Instant;
use tacit_aggregation::params::*;
fn main() {
    let n = 128;
    let mut t = terms(ThreatModel::SemiMalicious, n, 16, 6144);
    t.dropout_bp = 1000;
    t.correctness_bits = 40;
    let mut f = Fleet::new(n, t, 1);
    let ins = inputs(&mut f);
    let s = Instant::now();
    println!("{:?}", f.terms.params(n));
    println!("params {:?}", s.elapsed());
    let s = Instant::now();
    let adv = f.advertise();
    println!("advertise/client {:?}", s.elapsed() / n);
    let mut server = f.server();
    let s = Instant::now();
    for c in adv.values() {
        server.accept(c.advert().clone(), NOW).unwrap();
    }
    println!("server accept advert {:?}", s.elapsed() / n);
    let mut server = server.close().unwrap();
    let mut cl = std::collections::BTreeMap::new();
    let (mut a, mut b) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
    for (id, c) in adv {
        let s = Instant::now();
        let (c, m) = share_one(&server, c).unwrap();
        a += s.elapsed();
        let s = Instant::now();
        server.accept(m).unwrap();
        b += s.elapsed();
        cl.insert(id, c);
    }
    println!("share client {:?} server {:?}", a / n, b / n);
    let s = Instant::now();
    let mut server = server.close().unwrap();
    println!("share close {:?}", s.elapsed());
    let (mut a, mut b, mut d) =
        (std::time::Duration::ZERO, std::time::Duration::ZERO, std::time::Duration::ZERO);
    let mut up = std::collections::BTreeMap::new();
    for (id, c) in cl {
        let s = Instant::now();
        let del = server.deliveries(id).unwrap();
        d += s.elapsed();
        let s = Instant::now();
        let (c, m) = c.mask(&del, ins[&id].clone()).unwrap();
        a += s.elapsed();
        let s = Instant::now();
        server.accept(&m.header, &m.packed).unwrap();
        b += s.elapsed();
        up.insert(id, Uploaded { client: c, upload: m });
    }
    println!("deliver {:?} mask client {:?} server {:?}", d / n, a / n, b / n);
    let s = Instant::now();
    let col = close_collect(Progress { server, clients: up }).unwrap();
    println!("collect close {:?}", s.elapsed());
    let s = Instant::now();
    let (p, su) = confirm_all(col, &Default::default()).unwrap();
    println!("confirm both/client {:?}", s.elapsed() / n);
    let Progress { mut server, clients } = p;
    let (mut a, mut b, mut d) =
        (std::time::Duration::ZERO, std::time::Duration::ZERO, std::time::Duration::ZERO);
    for (id, c) in clients {
        let s = Instant::now();
        let r = server.request_for(id).unwrap();
        d += s.elapsed();
        let s = Instant::now();
        let (_, m) = c.unmask(&r).unwrap();
        a += s.elapsed();
        let s = Instant::now();
        server.accept(&m).unwrap();
        b += s.elapsed();
    }
    println!("request {:?} unmask client {:?} server {:?}", d / n, a / n, b / n);
    let m = su.finish().unwrap();
    let s = Instant::now();
    server.close(m).unwrap();
    println!("unmask close {:?}", s.elapsed());
}
