//! Memory that phone numbers take, in a process of its own.

#![cfg(target_os = "linux")]

use std::sync::Barrier;

use referral_core::{PhoneNumber, Region};
use rlibphonenumber::{PhoneNumberUtil, interfaces::AsOriginal as _};

/// Worker threads of a large host.
const THREADS: usize = 16;

/// The most that the process may take, in MiB. It takes 41, of which 9 before the first number. A server takes
/// 34 before its first request and must stay below 100. If the patterns of libphonenumber are matched by the
/// crate `regex`, it takes more than 480, and 95 even if they are for ASCII digits.
const MAX_RESIDENT: u64 = 60;

#[test]
fn memory_stays_small_after_a_phone_of_every_region_on_many_threads() {
    let phones = examples();
    assert!(phones.len() > 1_000, "{}", phones.len());
    // All threads work on the same number at the same time, so that nothing of one serves another.
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

/// Returns a number of every region and kind of line, in E.164 form, and its region.
fn examples() -> Vec<(String, String)> {
    let complete = PhoneNumberUtil::new().expect("the metadata in the crate is valid");
    let mut examples = Vec::new();
    for region in complete.get_supported_regions() {
        // Not parsed here, which would compile patterns.
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
        let code = plan.original.country_code.expect("every region has one");
        let numbers = lines.into_iter().filter_map(|line| line.original.example_number.as_deref());
        examples.extend(numbers.map(|number| (format!("+{code}{number}"), region.to_string())));
    }
    examples
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}
