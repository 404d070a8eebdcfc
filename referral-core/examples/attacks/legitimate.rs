//! Legitimate traffic: users who mistype codes, users whose messages arrive late, and users who share an
//! address. No limit may reject them.

use std::time::Duration;

use referral_core::SentCode;

use super::{
    Bound, Row, standard,
    world::{Address, At, HOUR, MINUTE, Response, TICK, World, phone},
};

/// Time that it takes to read a message and to type its code.
const TYPING: Duration = Duration::from_secs(20);

/// Time after which a user requests another code, and after which the first message arrives nevertheless.
const LATE: Duration = Duration::from_secs(70);

/// Counts the rejected requests of legitimate users.
pub(crate) async fn legitimate_users_are_served() -> Vec<Row> {
    vec![
        carrier(None, "without other clients").await,
        carrier(Some(OtherClient::WithoutChallenge), "150 attempts without a code an hour beside them").await,
        carrier(Some(OtherClient::UsedUpCodes), "30 codes an hour that other clients use up").await,
        office().await,
    ]
}

/// Counts the owners that are affected because their codes were in flight when an attack was detected.
pub(crate) async fn owners_at_the_start_of_an_attack() -> Row {
    const OWNERS: u32 = 100;
    let mut world = World::new(standard());
    let mut waiting = Vec::new();
    for number in 0..OWNERS {
        let (phone, from) = (phone(500_000 + number, 1), world.new_address());
        waiting.push((world.send(&phone, from).await.expect("sent"), from));
    }
    for number in 0..=world.policy.attack_threshold.expect("the policy has a threshold for attacks") {
        let from = world.new_address();
        let sent = world.request_code(&phone(number, 1), from).await.expect("sent");
        world.guess(At::Challenge(&sent), from).await;
    }
    world.wait(TYPING);
    let (mut repeated, mut rejected) = (0, 0);
    for (sent, from) in waiting {
        if world.respond(&sent, from).await == Response::SignedIn {
            continue;
        }
        repeated += 1;
        // The user does not wait until the resend interval ends.
        let signed_in = match world.send(&sent.phone, from).await {
            Ok(sent) => world.respond(&sent, from).await == Response::SignedIn,
            Err(_) => false,
        };
        rejected += u64::from(!signed_in);
    }
    let note = format!("{repeated} of {OWNERS} owners with a code in flight need another code immediately");
    world
        .row("Legitimate: codes in flight when an attack starts", Bound::Rejections(0))
        .rejecting(rejected, note)
}

#[derive(Clone, Copy)]
enum OtherClient {
    /// Submits codes for phones that have none.
    WithoutChallenge,
    /// Guesses the codes of the users until their attempts are used up.
    UsedUpCodes,
}

/// Signs in 2 400 users behind one address of a carrier, within a day: 100 an hour.
async fn carrier(other: Option<OtherClient>, name: &str) -> Row {
    let mut world = World::new(standard());
    let from = world.new_address();
    let (mut sign_ins, mut rejected) = (0, 0);
    for number in 0..2_400 {
        world.wait_until(HOUR / 100 * number);
        // Each user is in a different number range.
        let mut user = User { number, phone: 100_000 + number, from, rejected: 0 };
        if matches!(other, Some(OtherClient::WithoutChallenge)) {
            for attempt in 0..=number % 2 {
                world.attempt_without_code(&phone(900_000 + number, attempt), from).await;
            }
        }
        let attacks = matches!(other, Some(OtherClient::UsedUpCodes)) && (4..7).contains(&(number % 10));
        sign_ins += u64::from(user.sign_in(&mut world, attacks).await);
        rejected += user.rejected;
    }
    let note = format!("{sign_ins} of 2400 users signed in");
    let row = world.row(format!("Legitimate: a carrier's address for a day, {name}"), Bound::Rejections(0));
    row.rejecting(rejected, note)
}

/// Signs in 60 colleagues with sequential phone numbers, who start to work at the same time.
async fn office() -> Row {
    let mut world = World::new(standard());
    let from = world.new_address();
    let (mut sign_ins, mut rejected) = (0, 0);
    for number in 0..60 {
        world.wait_until(15 * TICK * number);
        let mut user = User { number, phone: number, from, rejected: 0 };
        sign_ins += u64::from(user.sign_in(&mut world, false).await);
        rejected += user.rejected;
    }
    let note = format!("{sign_ins} of 60 colleagues signed in");
    world.row("Legitimate: an office in the morning", Bound::Rejections(0)).rejecting(rejected, note)
}

struct User {
    number: u32,
    phone: u32,
    from: Address,
    rejected: u64,
}

impl User {
    /// Signs in with the mistakes of typical users. Returns `true` if the user is signed in at the end.
    async fn sign_in(&mut self, world: &mut World, is_attacked: bool) -> bool {
        let phone = if self.phone < 1_000 { phone(1, self.phone) } else { phone(self.phone, 1) };
        let Some(mut sent) = self.request(world, &phone).await else { return false };
        if is_attacked {
            // Another client guesses without the id of the challenge, and from another address.
            let other = world.new_address();
            for _ in 0..3 {
                world.guess(At::Newest(&phone), other).await;
            }
            // An older client does not send the id, so its code can no longer be used.
            self.count(world.respond_unnamed(&sent, self.from).await);
            world.wait(MINUTE);
            let Some(second) = self.request(world, &phone).await else { return false };
            sent = second;
        }
        world.wait(TYPING);
        match self.number % 40 {
            // Mistypes the code twice.
            0 | 13 => {
                for _ in 0..2 {
                    self.count(world.mistype(&sent, self.from).await);
                }
            }
            // The first message arrives after another code was requested, and its code is typed first.
            7 => {
                world.wait(LATE);
                let Some(second) = self.request(world, &phone).await else { return false };
                if self.submit(world, &sent).await {
                    return true;
                }
                sent = second;
            }
            // The code is typed after it has expired.
            21 | 33 => {
                world.wait(world.policy.code_lifetime);
                self.count(world.respond(&sent, self.from).await);
                let Some(second) = self.request(world, &phone).await else { return false };
                sent = second;
            }
            _ => {}
        }
        if self.submit(world, &sent).await {
            return true;
        }
        // After these wrong codes the phone needs a longer code.
        world.wait(MINUTE);
        match self.request(world, &phone).await {
            Some(longer) => self.submit(world, &longer).await,
            None => false,
        }
    }

    /// Types a code. Returns `true` if the user is signed in.
    async fn submit(&mut self, world: &World, sent: &SentCode) -> bool {
        let response = world.respond(sent, self.from).await;
        self.count(response);
        response == Response::SignedIn
    }

    async fn request(&mut self, world: &mut World, phone: &referral_core::PhoneNumber) -> Option<SentCode> {
        let sent = world.send(phone, self.from).await;
        self.rejected += u64::from(sent.is_err());
        sent.ok()
    }

    fn count(&mut self, response: Response) {
        self.rejected += u64::from(response == Response::TooMany);
    }
}
