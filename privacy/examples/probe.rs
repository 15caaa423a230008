//! probe
use tacit_privacy::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::time::Instant;
fn main() {
    for (n, d, z, c) in [(64u32, 6144usize, 1.0, 0.5), (128, 6144, 1.0, 0.5), (128,6144,2.0,0.5),(256,6144,1.0,0.5),(1000,1<<20,1.0,1.0),(1000,1<<20,4.0,1.0),(128,1<<20,1.0,1.0),(100,1<<16,1.0,1.0),(10,3,1.0,1.0),(10000,10_000_000,1.0,1.0),(2,1,1.0,1.0),(128,100,8.0,1.0)] {
        let req = MechanismRequest{clients:n,n_min:n - n/5,corrupt:BasisPoints::new(500).unwrap(),dropout:BasisPoints::new(2000).unwrap(),dimension:d,clip:c,noise_multiplier:z,adjacency:Adjacency::ZeroOut};
        let t=Instant::now();
        match Mechanism::build(&req) {
            Err(e)=>println!("n {n} d {d} z {z}: {e}"),
            Ok(m)=>{
                let el=t.elapsed();
                let curve=RdpCurve::distributed_discrete_gaussian(&m,m.n_min()).unwrap();
                let g=RdpCurve::gaussian(z);
                println!("n {n} d {d} z {z}: bits {} scale {} sl {:.2} infl {:.4} overhead {:.4} cutoff {} eps {:.4} gauss {:.4} build {el:?}",m.bits(),m.scale(),m.local_sigma(),m.sensitivity_inflation(),m.overhead(),m.sampler().cutoff(),curve.epsilon(1e-5).unwrap(),g.epsilon(1e-5).unwrap());
                if d<=1<<20 {
                let mut rng=ChaCha20Rng::seed_from_u64(1);
                for _ in 0..2 {
                let v:Vec<f32>=(0..d).map(|i|((i*7919)%1013) as f32/1013.0-0.5).collect();
                let t0=Instant::now();
                let cl=Clipped::new(v,c).unwrap();
                let t1=Instant::now();
                let r=cl.rotate(&RotationSeed([1;32]));
                let t2=Instant::now();
                let nn=r.noise(&m,&mut rng).unwrap();
                let t3=Instant::now();
                let ring=nn.into_ring();
                let t4=Instant::now();
                let dec=decode_sum(&ring,&m,&RotationSeed([1;32])).unwrap();
                let t5=Instant::now();
                println!("   clip {:?} rotate {:?} noise {:?} ({:.1} M/s) decode {:?} {}",t1-t0,t2-t1,t3-t2, d as f64/(t3-t2).as_secs_f64()/1e6,t5-t4,dec[0]);
                }}
            }
        }
    }
}
