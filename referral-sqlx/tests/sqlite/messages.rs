//! Tests of the stored data about messages with raw SQL that bypasses the storage.

use std::sync::Arc;

use async_trait::async_trait;
use referral_core::{
    CodeInput, DeliveryReport, DeliveryStatus, Error, Peppers, PhoneNumber, ReferralService, ReportEvidence,
    SendCode, SignIn, SignedIn, SigningKeys,
    sms::{Receipt, SmsError, SmsMessage, SmsSender},
};
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

/// Gateway that accepts all messages.
struct Gateway;

#[async_trait]
impl SmsSender for Gateway {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        let mut receipt = Receipt::new("m1").gateway("g1");
        receipt.revealed_code = Some(message.code.clone());
        Ok(receipt)
    }
}

/// Creates a service and a connection that bypasses its storage.
async fn harness() -> (ReferralService, SqliteConnection, TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let url = crate::url_in(directory.path());
    let storage = referral_sqlx::connect(&url).await.expect("a new file");
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
    let referral = ReferralService::builder(storage, Arc::new(Gateway), keys, peppers);
    let referral = referral.build().expect("valid policy and keys");
    let options: SqliteConnectOptions = url.parse().expect("a URL");
    let connection = SqliteConnection::connect_with(&options).await.expect("a connection");
    (referral, connection, directory)
}

async fn enter(referral: &ReferralService) -> SignedIn {
    let phone = PhoneNumber::parse("+79608543017", None).expect("a mobile number");
    let sent = referral.send_code(SendCode::new(phone)).await.expect("sent");
    let code = sent.revealed_code.expect("the gateway reveals it");
    let code = CodeInput::parse(code.reveal()).expect("digits");
    referral.sign_in(SignIn::new(sent.phone, code).challenge(sent.challenge)).await.expect("signed in")
}

fn delivered() -> DeliveryReport {
    let (gateway, message_id) = ("g1".to_owned(), "m1".to_owned());
    DeliveryReport {
        gateway,
        message_id,
        status: DeliveryStatus::Delivered,
        evidence: ReportEvidence::Strong,
    }
}

#[tokio::test]
async fn stored_messages_contain_no_personal_data() {
    let (referral, mut connection, _directory) = harness().await;
    enter(&referral).await;
    referral.report_delivery(delivered()).await.expect("recorded");
    let kept = sqlx::query("SELECT json_array(gateway, message_id, is_ours, region, status) FROM messages");
    let kept = kept.fetch_all(&mut connection).await.expect("rows");
    let kept: Vec<String> = kept.iter().map(|row| row.get(0)).collect();
    assert_eq!(kept, [r#"["g1","m1",1,"RU","delivered"]"#]);
    // The sixth column is the time of record.
    let columns = sqlx::query("SELECT count(*) FROM pragma_table_info('messages')");
    assert_eq!(columns.fetch_one(&mut connection).await.expect("a count").get::<i64, _>(0), 6);
}

#[tokio::test]
async fn sign_in_succeeds_and_reports_fail_if_messages_cannot_be_recorded() {
    let (referral, mut connection, _directory) = harness().await;
    sqlx::query("DROP TABLE messages").execute(&mut connection).await.expect("dropped");
    assert!(enter(&referral).await.created);
    let failed = referral.report_delivery(delivered()).await;
    assert!(matches!(failed, Err(Error::Storage(_))), "{failed:?}");
}
