//! Measures the resources that the server needs.

use std::{path::Path, time::Duration};

use rlibphonenumber::{PhoneNumberUtil, interfaces::AsOriginal as _};

use crate::{
    load::Load,
    report::{Report, Row},
    servers::Server,
};

/// Measures the server on an embedded database, and its memory again after sign-ins for the time `soak`.
pub(crate) async fn weigh(directory: &Path, soak: Duration, report: &mut Report) {
    const MIB: f64 = 1024.0 * 1024.0;
    let size = std::fs::metadata(crate::servers::program()).expect("the program exists").len();
    let size = f64::from(u32::try_from(size).unwrap_or(u32::MAX)) / MIB;
    report.push(Row::weight("the binary", size, "MiB", 25.0));
    // The first start creates the database, so the second one is measured.
    drop(Server::start(directory, &[]));
    let server = Server::start(directory, &[]);
    report.push(Row::weight("start to first response", server.start.as_secs_f64() * 1_000.0, "ms", 150.0));
    report.push(Row::weight("resident, idle", server.resident(), "MiB", 40.0));
    let tokens = server.tokens("users", 0..64).await;
    let sign = Load {
        flow: "sign",
        path: String::new(),
        tokens: tokens.access,
        first: 0,
        phones: 10_000,
        requests: 2.0,
    };
    sign.run(&server.address, 256, Duration::from_secs(10));
    let under_load = server.resident();
    report.push(Row::weight("resident, after 256 connections", under_load, "MiB", 100.0));
    if !soak.is_zero() {
        sign.run(&server.address, 32, soak);
        let minutes = soak.as_secs() / 60;
        report.push(Row::weight(
            &format!("resident, after {minutes} minutes of sign-ins"),
            server.resident(),
            "MiB",
            100.0,
        ));
    }
    drop(server);
    for threads in [2, 16] {
        let server = Server::on_threads(directory, threads);
        for phone in mobile_phones() {
            // More connections than threads, so that most threads see each phone.
            server.send_codes(&phone, 2 * threads).await;
        }
        report.push(Row::weight(
            &format!("resident, after a phone of every region, {threads} threads"),
            server.resident(),
            "MiB",
            100.0,
        ));
    }
    let server = Server::start(directory, &[]);
    let mut idle = Vec::new();
    while idle.len() < 10_000 {
        let Ok(connection) = tokio::net::TcpStream::connect(&server.address).await else { break };
        idle.push(connection);
    }
    let is_served = reqwest::get(format!("http://{}/health/ready", server.address)).await.is_ok();
    assert!(is_served, "the server must respond while {} connections are idle", idle.len());
    let held = f64::from(u32::try_from(idle.len()).unwrap_or(u32::MAX));
    report.push(Row::count("idle connections held", held, 10_000.0));
}

/// Returns a mobile number of every region that has one.
fn mobile_phones() -> Vec<String> {
    let plans = PhoneNumberUtil::new().expect("the metadata in the crate is valid");
    let plan = |region| plans.as_original().get_metadata_for_region(region).expect("supported");
    let phones = plans.get_supported_regions().map(plan).filter_map(|plan| {
        let example = plan.mobile.original.example_number.as_deref()?;
        Some(format!("+{}{example}", plan.original.country_code?))
    });
    phones.collect()
}
