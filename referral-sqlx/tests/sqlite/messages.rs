//! Tests of the stored data about messages with raw SQL that bypasses the storage.

use async_trait::async_trait;
use referral_core::{
    Error, ReferralService,
    sms::{DeliveryReport, DeliveryStatus, Receipt, ReportEvidence, SmsError, SmsMessage, SmsSender},
};
use sqlx::{Row as _, SqliteConnection};
use tempfile::TempDir;

use crate::{raw, service, sign_in::enter};

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
    let referral = service::builder(storage, Gateway).build().expect("valid policy and keys");
    (referral, raw(&url).await, directory)
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
    enter(&referral, 1, None).await;
    referral.report_delivery(delivered()).await.expect("recorded");
    let kept =
        sqlx::query("SELECT json_array(gateway, message_id, is_ours, region, status) FROM referral_messages");
    let kept = kept.fetch_all(&mut connection).await.expect("rows");
    let kept: Vec<String> = kept.iter().map(|row| row.get(0)).collect();
    assert_eq!(kept, [r#"["g1","m1",1,"RU","delivered"]"#]);
    // The sixth column is the time of record.
    let columns = sqlx::query("SELECT count(*) FROM pragma_table_info('referral_messages')");
    assert_eq!(columns.fetch_one(&mut connection).await.expect("a count").get::<i64, _>(0), 6);
}

#[tokio::test]
async fn sign_in_succeeds_and_reports_fail_if_messages_cannot_be_recorded() {
    let (referral, mut connection, _directory) = harness().await;
    sqlx::query("DROP TABLE referral_messages").execute(&mut connection).await.expect("dropped");
    assert!(enter(&referral, 1, None).await.created);
    let failed = referral.report_delivery(delivered()).await;
    assert!(matches!(failed, Err(Error::Storage(_))), "{failed:?}");
}
