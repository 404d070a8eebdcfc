//! Test of the memory that phone numbers need. It runs in its own process.

#![cfg(target_os = "linux")]

use std::sync::Barrier;

use referral_core::{PhoneNumber, Region};
use rlibphonenumber::{PhoneNumberUtil, interfaces::AsOriginal as _};

/// Number of worker threads of a large host.
const THREADS: usize = 16;

/// Maximum resident memory of the process, in MiB. It needs 41 MiB, of which 9 MiB are used before the first
/// number. A server uses 34 MiB before its first request and must stay below 100 MiB. If the crate `regex`
/// matches the patterns of libphonenumber, the process needs more than 480 MiB, or 95 MiB with patterns for
/// ASCII digits only.
const MAX_RESIDENT: u64 = 60;

#[test]
fn memory_stays_small_after_parsing_phones_of_every_region_on_many_threads() {
    let phones = examples();
    assert!(phones.len() > 1_000, "{}", phones.len());
    // All threads parse the same number at the same time, so that no thread can use cached data of another.
    let barrier = Barrier::new(THREADS);
    let work = || {
        let mut valid = 0;
        for (phone, region) in &phones {
            barrier.wait();
            if let Ok(phone) = PhoneNumber::parse(phone, None) {
                let _ = (phone.region(), phone.may_be_mobile(), phone.masked());
                valid += 1;
            }
            let _ = PhoneNumber::parse(&phone[3..], Region::parse(region).ok());
        }
        valid
    };
    let valid: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(valid.iter().all(|valid| *valid + 10 > phones.len()), "{valid:?} of {}", phones.len());
    let resident = resident_mib();
    assert!(resident <= MAX_RESIDENT, "{resident} MiB");
}

/// Returns an example number of every region and line type in E.164 form, and its region.
fn examples() -> Vec<(String, String)> {
    let complete = PhoneNumberUtil::new().expect("the metadata in the crate is valid");
    let mut examples = Vec::new();
    for region in complete.get_supported_regions() {
        // The numbers are not parsed here, because this would compile patterns.
        let plan = complete.as_original().get_metadata_for_region(region).expect("supported");
        let lines = [
            &plan.fixed_line,
            &plan.mobile,
            &plan.toll_free,
            &plan.premium_rate,
            &plan.shared_cost,
            &plan.personal_number,
            &plan.voip,
            &plan.pager,
            &plan.uan,
            &plan.voicemail,
        ];
        let code = plan.original.country_code.expect("every region has a country code");
        let numbers = lines.into_iter().filter_map(|line| line.original.example_number.as_deref());
        examples.extend(numbers.map(|number| (format!("+{code}{number}"), region.to_string())));
    }
    examples
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux provides this file");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the line is present");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("valid number") / 1024
}
