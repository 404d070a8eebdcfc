//! Tests of the gate: decisions of the host about codes, sign-ups and invitations.

mod decisions;
mod failures;
mod http;
