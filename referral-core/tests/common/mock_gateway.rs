//! Gateway whose calls a test expects.

use async_trait::async_trait;
use referral_core::sms::{Receipt, SmsError, SmsMessage, SmsSender};

mockall::mock! {
    pub(crate) Gateway {}

    #[async_trait]
    impl SmsSender for Gateway {
        async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError>;
    }
}
