//! Texts of the console in each language.

use poem::http::HeaderMap;
use referral_core::{sms::Locale, texts};

use super::visit::Visit;
use crate::api::accept_language::languages;

/// Language of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Language {
    #[default]
    English,
    Russian,
}

/// Name of the cookie with the chosen language, and of the parameter that chooses one.
const SETTING: &str = "language";

impl Language {
    pub(super) const ALL: [Self; 2] = [Self::English, Self::Russian];

    /// Returns the language tag.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Russian => "ru",
        }
    }

    /// Returns the language of the texts of errors.
    pub(super) fn of_errors(self) -> texts::Language {
        match self {
            Self::English => texts::Language::English,
            Self::Russian => texts::Language::Russian,
        }
    }

    /// Returns the name of the language in the language itself.
    pub(super) fn own_name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Russian => "Русский",
        }
    }

    fn of_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag() == tag)
    }

    /// Returns the first language of the headers that the console has.
    fn accepted(headers: &HeaderMap) -> Self {
        let primary = |locale: &Locale| locale.as_str().split('-').next().and_then(Self::of_tag);
        languages(headers).iter().find_map(primary).unwrap_or_default()
    }
}

impl Visit {
    /// Sets the language of the page: the one in the query, which the browser keeps, the kept one, or one
    /// that the browser accepts.
    pub(super) fn choose_language(&mut self) {
        let chosen = self.query.get(SETTING).and_then(Language::of_tag);
        if let Some(language) = chosen {
            self.set_setting(SETTING, language.tag());
        }
        let kept = || self.cookie(SETTING).as_deref().and_then(Language::of_tag);
        self.language = chosen.or_else(kept).unwrap_or_else(|| Language::accepted(&self.headers));
    }

    /// Returns the languages for messages, with the language of the page first.
    pub(super) fn locales(&self) -> Vec<Locale> {
        Locale::parse(self.language.tag()).into_iter().chain(languages(&self.headers)).collect()
    }
}

macro_rules! texts {
    ($($name:ident = $english:literal, $russian:literal;)+) => {
        impl Language {
            $(
                pub(super) fn $name(self) -> &'static str {
                    match self {
                        Self::English => $english,
                        Self::Russian => $russian,
                    }
                }
            )+
        }

        #[cfg(test)]
        const TEXTS: &[(&str, &str)] = &[$(($english, $russian),)+];
    };
}

texts! {
    // Frame of each page.
    console = "Referral console", "Консоль Referral";
    skip = "Skip to the content", "Перейти к содержанию";
    overview = "Overview", "Обзор";
    users = "Users", "Пользователи";
    sign_out = "Sign out", "Выйти";
    main_menu = "Main menu", "Главное меню";
    language = "Language", "Язык";
    utc_note = "All times are in UTC.", "Время указано по UTC.";
    request_id = "Request id", "Номер запроса";
    back_to_start = "Back to the start page", "На главную страницу";

    // Sign-in.
    sign_in = "Sign in", "Вход";
    sign_in_button = "Sign in", "Войти";
    sign_in_lead = "For staff. A one-time code is sent to the phone.",
        "Для сотрудников. На телефон придёт одноразовый код.";
    phone = "Phone", "Телефон";
    phone_hint = "In international form, such as +7 960 854-30-17", "В международном формате, например +7 960 854-30-17";
    send_code = "Send the code", "Получить код";
    code_sent = "The code was sent to", "Код отправлен на номер";
    code = "Code", "Код";
    other_phone = "Use another phone or request another code", "Другой номер или новый код";
    development_code = "No messages are sent in development. The code is", "В режиме разработки сообщения не отправляются. Код:";
    continue_title = "Open the console", "Открыть консоль";
    continue_text = "This link was opened from another site.", "Ссылка открыта с другого сайта.";
    continue_link = "Continue", "Продолжить";

    // Errors.
    error_title = "The request failed", "Запрос не выполнен";
    not_staff_title = "No access", "Нет доступа";
    not_staff_text = "The code is correct, but this account is not staff. Nothing has changed, and you are not signed in.",
        "Код верный, но эта учётная запись не принадлежит сотруднику. Ничего не изменилось, вход не выполнен.";
    no_rights_text = "This account is not staff, so the console is not available. You have been signed out.",
        "Эта учётная запись не принадлежит сотруднику, поэтому консоль недоступна. Выполнен выход.";
    untrusted_title = "The form is not valid any more", "Форма устарела";
    untrusted_text = "The form was not sent by a page of this console, or you have signed in again since the page was opened. \
                      Open the page again and repeat the step.",
        "Форма отправлена не со страницы консоли, или после открытия страницы был выполнен новый вход. Откройте страницу \
         заново и повторите действие.";
    signed_out_title = "Not signed in", "Вход не выполнен";
    signed_out_text = "The session has ended, so nothing was changed. Sign in and repeat the step.",
        "Сеанс завершён, поэтому ничего не изменилось. Войдите и повторите действие.";
    not_confidential = "The console needs an encrypted connection. Open it at a public URL with https, which the operator sets, \
                        or at localhost on the machine of the server.",
        "Консоли нужно шифрованное соединение. Откройте её по публичному адресу с https, который задаёт администратор, или по \
         адресу localhost на машине сервера.";
    not_found = "The page or the user does not exist, or the user was deleted.",
        "Страница или пользователь не существует, или пользователь удалён.";

    // Users.
    search_label = "Phone, name, email, code or id", "Телефон, имя, почта, код или id";
    find = "Find", "Найти";
    found = "Found", "Найдено";
    newest_first = "newest first", "сначала новые";
    no_users = "No users match. Check the spelling, or search for a part of the phone.",
        "Никого не найдено. Проверьте написание или введите часть номера.";
    more_than = "more than", "больше";
    newer = "Newer", "Новее";
    older = "Older", "Старее";
    pages = "Pages", "Страницы";
    name = "Name", "Имя";
    email = "Email", "Почта";
    invite_code = "Invite code", "Код приглашения";
    invited_by = "Invited by", "Кто пригласил";
    joined = "Joined (UTC)", "Регистрация (UTC)";
    last_login = "Last sign-in (UTC)", "Последний вход (UTC)";
    last_active = "Last active (UTC, to the day)", "Последняя активность (UTC, с точностью до дня)";
    never = "never", "никогда";
    state = "State", "Состояние";
    active = "active", "активен";
    blocked = "blocked", "заблокирован";
    no_phone = "no phone", "без телефона";
    detached = "Phone detached (UTC)", "Телефон отвязан (UTC)";
    former_users = "Earlier accounts of the phone", "Прежние учётные записи телефона";
    former_users_text = "These accounts had the phone and lost it. To give it back to one of them, first detach it from this user.",
        "У этих учётных записей был этот телефон. Чтобы вернуть его одной из них, сначала отвяжите его от этого пользователя.";
    deletion_at = "Deletion (UTC)", "Удаление (UTC)";
    to_be_deleted = "to be deleted", "будет удалён";
    external_id = "External id", "Внешний id";
    metadata = "Metadata", "Метаданные";
    profile = "Profile", "Профиль";
    none = "none", "нет";
    deleted_user = "deleted user", "удалённый пользователь";

    // Referrals.
    referrals = "Referrals", "Приглашения";
    tree = "Referral tree", "Дерево приглашений";
    show_tree = "Show the tree", "Показать дерево";
    invitees = "Invitees", "Приглашённые";
    no_invitees = "This user has invited no users.", "Этот пользователь никого не пригласил.";
    more_invitees = "More invitees", "Ещё приглашённые";
    ancestors = "Inviters above", "Цепочка пригласивших";
    further_up = "further up", "выше";
    tree_hint = "A number is the count of direct invitees. Open a branch to see them.",
        "Число показывает, сколько пользователей приглашено напрямую. Откройте ветвь, чтобы увидеть их.";
    loading = "Loading…", "Загрузка…";

    // Overview.
    all_users = "Users", "Пользователи";
    today = "today", "сегодня";
    sign_ups = "Sign-ups", "Регистрации";
    invitations = "Invitations", "Приглашения";
    attack_alarm = "Attack alarm", "Тревога об атаке";
    attack_on = "on", "включена";
    attack_off = "off", "выключена";
    attack_until = "until", "до";
    attack_text = "Far more wrong codes than usual are entered. Until the alarm ends, all codes are longer.",
        "Неверных кодов вводится намного больше обычного. Пока тревога включена, все коды длиннее.";
    wrong_codes = "Wrong codes in 10 minutes", "Неверные коды за 10 минут";
    messages = "Messages in 24 hours", "Сообщения за 24 часа";
    of_budget = "of", "из";
    period = "Sign-ups and invitations", "Регистрации и приглашения";
    days = "days", "дней";
    in_total = "in total:", "всего:";
    at_most_a_day = "most on one day:", "максимум за день:";
    table_of_days = "Show as a table", "Показать таблицей";
    day = "Day (UTC)", "День (UTC)";
    limits = "Limits in force", "Действующие ограничения";
    limit = "Limit", "Ограничение";
    value = "Value", "Значение";
    off = "off", "нет";
    unlimited = "unlimited", "без ограничения";
    code_length = "Digits of a code", "Цифр в коде";
    code_length_steps = "Digits after wrong codes of a phone", "Цифр после неверных кодов телефона";
    after_wrong_codes = "wrong codes or more", "неверных кодов или больше";
    code_lifetime = "Lifetime of a code", "Срок действия кода";
    attempts_per_code = "Attempts for a code", "Попыток на код";
    resend_interval = "Time between two codes for a phone", "Интервал между кодами на телефон";
    codes_per_phone = "Codes for a phone", "Коды на телефон";
    codes_per_phone_and_address = "Codes for a phone from one address", "Коды на телефон с одного адреса";
    codes_per_address = "Codes for an address without a sign-in", "Коды на адрес без входа";
    codes_per_number_range = "Codes for a number range without a sign-in", "Коды на диапазон номеров без входа";
    failed_attempts_per_address = "Wrong codes from an address", "Неверные коды с адреса";
    attempts_without_challenge = "Attempts from an address without a valid code", "Попытки с адреса без действующего кода";
    unknown_invite_codes = "Unknown invite codes", "Неизвестные коды приглашения";
    email_changes = "Changes of the email address", "Изменения адреса почты";
    lockout_threshold = "Wrong codes that lock a phone out", "Неверных кодов до блокировки телефона";
    attack_threshold = "Wrong codes in 10 minutes that start the alarm", "Неверных кодов за 10 минут до тревоги";
    attack_code_length = "Digits of a code during the alarm", "Цифр в коде во время тревоги";
    messages_per_day = "Messages a day", "Сообщений в день";
    test_numbers = "Test numbers", "Тестовые номера";

    // Actions.
    actions = "Actions", "Действия";
    edit = "Edit", "Изменить";
    save = "Save", "Сохранить";
    cancel = "Cancel", "Отмена";
    block = "Block", "Заблокировать";
    block_text = "The sessions of the user end, and the user cannot sign in until the account is unblocked.",
        "Сеансы пользователя завершатся, и он не сможет войти, пока учётную запись не разблокируют.";
    unblock = "Unblock", "Разблокировать";
    unblock_text = "The user can sign in again.", "Пользователь снова сможет войти.";
    end_sessions = "End sessions", "Завершить сеансы";
    end_sessions_text = "The user is signed out on all devices, and can sign in again.",
        "Пользователь выйдет на всех устройствах и сможет войти снова.";
    change_role = "Change the role", "Изменить роль";
    change_role_text = "Support can see all data, unlock phones and end sessions. Admins can do everything. Additional rights \
                        end the sessions of the user.",
        "Поддержка видит все данные, снимает ограничения с телефонов и завершает сеансы. Администраторы могут всё. Новые права \
         завершают сеансы пользователя.";
    change_phone = "Change the phone", "Изменить телефон";
    change_phone_text = "First make sure that the person owns the account. All sessions of the user end. A phone of another user must be \
                         detached from that user before.",
        "Сначала убедитесь, что человек владеет учётной записью. Все сеансы пользователя завершатся. Телефон другого пользователя \
         нужно сначала отвязать от него.";
    no_phone_hint = "An empty field detaches the phone. The account stays, but no sign-in is possible until it has a phone.",
        "Пустое поле отвязывает телефон. Учётная запись остаётся, но войти в неё нельзя, пока у неё нет телефона.";
    export_data = "Export all data", "Выгрузить данные";
    export_data_text = "Downloads everything that is stored about the user as a JSON file, for this user only. The export is \
                        recorded in the audit log.",
        "Скачивает всё, что хранится о пользователе, файлом JSON, только для этого пользователя. Выгрузка записывается в журнал.";
    role = "Role", "Роль";
    no_role = "no role", "без роли";
    support = "support", "поддержка";
    admin = "admin", "администратор";
    cancel_deletion = "Cancel the deletion", "Отменить удаление";
    cancel_deletion_text = "The user has deleted the account, and the data are deleted at the end of the grace period. If you cancel \
                            this, the account stays, and the user can sign in as before.",
        "Пользователь удалил учётную запись, и данные будут удалены по окончании отсрочки. Если отменить удаление, учётная \
         запись останется, и пользователь сможет войти как раньше.";
    delete = "Delete", "Удалить";
    delete_text = "All personal data and all sessions are deleted for ever. The invitations and the counts of others stay. Do not \
                   enter personal data as the reason.",
        "Все персональные данные и сеансы удаляются навсегда. Приглашения и счётчики других пользователей остаются. Не указывайте \
         персональные данные в причине.";
    confirm_digits = "Last four digits of the phone, to confirm", "Последние четыре цифры телефона для подтверждения";
    unlock_phone = "Unlock the phone", "Снять ограничения с телефона";
    unlock_text = "Forgets the recent codes and wrong codes of a phone, so that it can get a code again. The limits of addresses \
                   and number ranges still apply.",
        "Недавние коды и неверные коды телефона забываются, и он снова может получить код. Ограничения адресов и диапазонов \
         номеров действуют дальше.";
    reason = "Reason", "Причина";
    reason_hint = "For the audit log, such as the number of a request. The user can see it in an export of their data.",
        "Для журнала, например номер обращения. Пользователь может увидеть её, когда выгрузит свои данные.";
    first_name = "First name", "Имя";
    last_name = "Last name", "Фамилия";
    inviters_code = "Invite code of the inviter", "Код приглашения пригласившего";
    inviters_code_hint = "An empty field removes the inviter.", "Пустое поле убирает пригласившего.";
    metadata_json = "Metadata (JSON)", "Метаданные (JSON)";
    undo_text = "The form has the values from before the change. Check them, and save.",
        "В форме значения до изменения. Проверьте их и сохраните.";
    blocked_done = "The user is blocked.", "Пользователь заблокирован.";
    unblocked_done = "The user is unblocked.", "Пользователь разблокирован.";
    sessions_ended_done = "The sessions have ended.", "Сеансы завершены.";
    role_changed_done = "The role is changed.", "Роль изменена.";
    phone_changed_done = "The phone is changed.", "Телефон изменён.";
    deletion_canceled_done = "The deletion is canceled.", "Удаление отменено.";
    deleted_done = "The user is deleted.", "Пользователь удалён.";
    unlocked_done = "The phone is unlocked.", "Ограничения с телефона сняты.";
    edited_done = "The changes are saved.", "Изменения сохранены.";
    sessions = "Sessions", "Сеансы";
    no_sessions = "No active sessions.", "Нет активных сеансов.";
    started = "Started (UTC)", "Начало (UTC)";
    last_used = "Last used (UTC)", "Использован (UTC)";
    device = "Device", "Устройство";
    address = "Address", "Адрес";

    // Codes and messages.
    codes_and_messages = "Codes and messages", "Коды и сообщения";
    no_code_requests = "No requests for codes in the last three days.", "За последние три дня коды не запрашивались.";
    request = "Request", "Запрос";
    outcome = "Outcome", "Результат";
    gateway = "Gateway", "Шлюз";
    code_requested = "code requested", "запрошен код";
    code_entered = "code entered", "введён код";
    free_again = "until", "до";
    outcome_sent = "message accepted", "сообщение принято";
    outcome_unknown = "the gateway did not respond in time", "шлюз не ответил вовремя";
    outcome_test_number = "test number, no message", "тестовый номер, без сообщения";
    outcome_not_sent = "not sent, the code is invalid", "не отправлено, код недействителен";
    outcome_redeemed = "correct, redeemed", "верный, использован";
    outcome_refused = "refused", "отклонено";
    outcome_rejected_by_host = "rejected by the gate of the operator", "отклонено проверкой оператора";
    outcome_gate_failed = "the gate of the operator failed", "сбой проверки оператора";
    outcome_failed = "the service failed", "сбой сервиса";
    not_reported = "delivery not reported", "о доставке не сообщено";
    not_delivered = "not delivered", "не доставлено";
    delivered = "delivered", "доставлено";

    // Audit log.
    audit_log = "Audit log", "Журнал";
    audit_of_user = "Audit log of the user", "Журнал пользователя";
    no_entries = "No entries match.", "Записей нет.";
    time = "Time (UTC)", "Время (UTC)";
    actor = "Author", "Автор";
    change = "Change", "Действие";
    values = "Values", "Значения";
    user = "User", "Пользователь";
    user_id = "Id of the user", "Id пользователя";
    host = "operator or server", "оператор или сервер";
    all_authors = "all", "все";
    own_changes = "my changes", "мои изменения";
    all_changes = "all", "все";
    action_user_added = "staff added", "добавлен сотрудник";
    action_user_changed = "user changed", "пользователь изменён";
    action_phone_changed = "phone changed", "телефон изменён";
    action_deletion_scheduled = "deletion scheduled", "удаление запланировано";
    action_deletion_canceled = "deletion canceled", "удаление отменено";
    action_user_deleted = "user deleted", "пользователь удалён";
    action_sessions_ended = "sessions ended", "сеансы завершены";
    action_phone_unlocked = "phone unlocked", "ограничения сняты";
    action_data_exported = "data exported", "данные выгружены";
    active_field = "Active", "Активен";
    undo = "Restore the values…", "Вернуть значения…";
    undo_state = "Undo the blocking or unblocking…", "Отменить блокировку или разблокировку…";
    undo_role = "Restore the role…", "Вернуть роль…";
    undo_phone = "Restore the phone…", "Вернуть телефон…";

    // Units.
    seconds_unit = "s", "с";
    minutes_unit = "min", "мин";
    hours_unit = "h", "ч";
    days_unit = "d", "д";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_translated() {
        let is_cyrillic = |c: char| ('а'..='я').contains(&c.to_lowercase().next().unwrap_or(c));
        for (english, russian) in TEXTS {
            assert!(!english.is_empty() && !english.contains(is_cyrillic), "{english}");
            assert!(russian.contains(is_cyrillic), "{english}: {russian}");
            assert_eq!(english.ends_with('.'), russian.ends_with('.'), "{english}: {russian}");
            assert!(!english.contains("  ") && !russian.contains("  "), "{english}: {russian}");
        }
    }
}
