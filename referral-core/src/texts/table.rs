//! The table of all texts. Each text has one sentence that says what is wrong, and one that says how to fix it.
//!
//! The id of a text is the error code, or the error code and a more precise reason. The texts are ICU messages
//! with the placeholders `{seconds}`, `{line}` and `{column}`, without apostrophes and `#` outside of plural
//! forms. Field names, headers and other terms of the API are in backticks and not translated. The table is
//! data, so it is longer than other files.

use super::Language;

macro_rules! texts {
    ($($variant:ident = $id:literal { en $en:literal ru $ru:literal kk $kk:literal })+) => {
        /// Text for people about one kind of error, in all languages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Text { $(#[doc = $en] $variant,)+ }

        impl Text {
            /// All texts.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the id: the error code, or the error code and a more precise reason, such as
            /// `invalid_phone.country_code`.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)+ }
            }

            /// Returns the text in a language, as an ICU message: it may have placeholders such as `{seconds}`.
            /// [`Detail::write`](super::Detail::write) returns it with the values.
            #[must_use]
            pub fn template(self, language: Language) -> &'static str {
                match language {
                    Language::English => match self { $(Self::$variant => $en,)+ },
                    Language::Russian => match self { $(Self::$variant => $ru,)+ },
                    Language::Kazakh => match self { $(Self::$variant => $kk,)+ },
                }
            }
        }
    };
}

texts! {
    // Phones.
    InvalidPhone = "invalid_phone" {
        en "The phone number is not valid. Enter it in international form, such as +79608543017."
        ru "Неверный номер телефона. Введите его в международном формате, например +79608543017."
        kk "Телефон нөмірі дұрыс емес. Оны халықаралық форматта енгізіңіз, мысалы +79608543017."
    }
    PhoneCharacters = "invalid_phone.characters" {
        en "The phone number is too long, or has other characters than digits and punctuation. Use only digits, spaces, `-`, `.`, `/`, brackets and one leading `+`."
        ru "Номер телефона слишком длинный или содержит лишние символы. Используйте только цифры, пробелы, `-`, `.`, `/`, скобки и один знак `+` в начале."
        kk "Телефон нөмірі тым ұзын немесе онда артық таңбалар бар. Тек цифрларды, бос орындарды, `-`, `.`, `/` таңбаларын, жақшаларды және басында бір `+` белгісін қолданыңыз."
    }
    PhoneCountryCode = "invalid_phone.country_code" {
        en "The phone number has no country code. Use the international form, such as +79608543017."
        ru "В номере телефона нет кода страны. Введите номер в международном формате, например +79608543017."
        kk "Телефон нөмірінде ел коды жоқ. Нөмірді халықаралық форматта енгізіңіз, мысалы +79608543017."
    }
    PhoneNotAssigned = "invalid_phone.not_assigned" {
        en "The phone number does not exist. Check its digits."
        ru "Такого номера телефона не существует. Проверьте цифры."
        kk "Мұндай телефон нөмірі жоқ. Цифрларын тексеріңіз."
    }
    PhoneNotAllowed = "phone_not_allowed" {
        en "Codes are not sent to this kind of number. Use another phone."
        ru "На такие номера коды не отправляются. Укажите другой телефон."
        kk "Мұндай нөмірлерге код жіберілмейді. Басқа телефон нөмірін көрсетіңіз."
    }
    MobilePrefixMissing = "phone_not_allowed.mobile_prefix" {
        en "The number is a landline of Argentina. Mobile numbers have a 9 after the calling code: +54 9."
        ru "Это стационарный номер Аргентины. В мобильных номерах после кода страны стоит 9: +54 9."
        kk "Бұл — Аргентинаның стационарлық нөмірі. Ұялы нөмірлерде ел кодынан кейін 9 тұрады: +54 9."
    }
    OwnPhone = "own_phone" {
        en "The phone is your current phone. Enter another phone."
        ru "Это ваш текущий номер телефона. Введите другой номер."
        kk "Бұл — сіздің қазіргі телефон нөміріңіз. Басқа нөмірді енгізіңіз."
    }
    PhoneTaken = "phone_taken" {
        en "Another user has this phone. Use another phone, or sign in with this one."
        ru "Этот номер телефона уже занят. Укажите другой номер или войдите с этим номером."
        kk "Бұл телефон нөмірін басқа пайдаланушы қолданады. Басқа нөмір көрсетіңіз немесе осы нөмірмен кіріңіз."
    }
    PhoneUnreachable = "phone_unreachable" {
        en "The phone cannot receive messages: the number is not in use, or it blocks them. Use another phone."
        ru "На этот телефон нельзя отправить сообщение: номер не обслуживается или блокирует сообщения. Укажите другой телефон."
        kk "Бұл телефонға хабарлама жіберу мүмкін емес: нөмір қолданыста жоқ немесе хабарламаларды бұғаттайды. Басқа телефон нөмірін көрсетіңіз."
    }

    // Codes from messages.
    MalformedCode = "malformed_code" {
        en "The code has other characters than digits, or the wrong number of digits. Enter the code from the message."
        ru "В коде есть лишние символы или неверное количество цифр. Введите код из сообщения."
        kk "Кодта артық таңбалар бар немесе цифрлар саны дұрыс емес. Хабарламадағы кодты енгізіңіз."
    }
    InvalidCode = "invalid_code" {
        en "The code is wrong or no longer valid. Check the code in the newest message, or request a new one."
        ru "Код неверный или больше не действует. Проверьте код в последнем сообщении или запросите новый."
        kk "Код қате немесе енді жарамсыз. Соңғы хабарламадағы кодты тексеріңіз немесе жаңасын сұраңыз."
    }
    ChallengeRequired = "challenge_required" {
        en "The id of the request for the code is missing. Send the `challenge_id` that the service returned when it sent the code."
        ru "Не указан идентификатор запроса кода. Передайте `challenge_id`, который сервис вернул при отправке кода."
        kk "Код сұранысының идентификаторы көрсетілмеген. Код жіберілгенде сервис қайтарған `challenge_id` мәнін жіберіңіз."
    }
    UserInactive = "user_inactive" {
        en "The code is correct, but the account is deactivated. Contact support."
        ru "Код верный, но аккаунт заблокирован. Обратитесь в службу поддержки."
        kk "Код дұрыс, бірақ аккаунт бұғатталған. Қолдау қызметіне хабарласыңыз."
    }
    SmsNotSent = "sms_not_sent" {
        en "The message with the code could not be sent. Request a new code in {seconds, plural, one {# second} other {# seconds}}."
        ru "Не удалось отправить сообщение с кодом. Запросите новый код через {seconds, plural, one {# секунду} few {# секунды} many {# секунд} other {# секунды}}."
        kk "Код жазылған хабарламаны жіберу мүмкін болмады. {seconds} секундтан кейін жаңа код сұраңыз."
    }
    TooManyRequests = "too_many_requests" {
        en "There were too many requests. Try again in {seconds, plural, one {# second} other {# seconds}}."
        ru "Слишком много запросов. Попробуйте снова через {seconds, plural, one {# секунду} few {# секунды} many {# секунд} other {# секунды}}."
        kk "Сұраныс тым көп. {seconds} секундтан кейін қайталап көріңіз."
    }
    TestNumber = "test_number" {
        en "A user with a test number cannot be staff. Remove the phone from the test numbers first."
        ru "Пользователь с тестовым номером не может быть сотрудником. Сначала уберите телефон из тестовых номеров."
        kk "Тест нөмірі бар пайдаланушы қызметкер бола алмайды. Алдымен телефонды тест нөмірлерінен алып тастаңыз."
    }
    RejectedByHost = "rejected_by_host" {
        en "The request was rejected. Contact support."
        ru "Запрос отклонён. Обратитесь в службу поддержки."
        kk "Сұраныс қабылданбады. Қолдау қызметіне хабарласыңыз."
    }

    // Invitations.
    InvalidInviteCode = "invalid_invite_code" {
        en "An invite code must have 6 to 12 letters A–Z and digits. Check the code, or leave it out."
        ru "Код приглашения состоит из 6–12 латинских букв и цифр. Проверьте код или оставьте поле пустым."
        kk "Шақыру коды 6–12 латын әрпі мен цифрдан тұрады. Кодты тексеріңіз немесе өрісті бос қалдырыңыз."
    }
    UnknownInviteCode = "unknown_invite_code" {
        en "No user has this invite code. Check the code, or leave it out."
        ru "Такого кода приглашения нет. Проверьте код или оставьте поле пустым."
        kk "Мұндай шақыру коды жоқ. Кодты тексеріңіз немесе өрісті бос қалдырыңыз."
    }
    OwnInviteCode = "own_invite_code" {
        en "A user cannot use their own invite code. Enter the code of another user, or leave it out."
        ru "Нельзя использовать собственный код приглашения. Введите код другого пользователя или оставьте поле пустым."
        kk "Өз шақыру кодын қолдануға болмайды. Басқа пайдаланушының кодын енгізіңіз немесе өрісті бос қалдырыңыз."
    }
    InvitationLoop = "invitation_loop" {
        en "The owner of this invite code was invited by the same user, directly or through other users. Enter another code, or leave it out."
        ru "Владелец этого кода сам приглашён этим пользователем, напрямую или через других. Введите другой код или оставьте поле пустым."
        kk "Бұл кодтың иесін осы пайдаланушының өзі тікелей немесе басқалар арқылы шақырған. Басқа код енгізіңіз немесе өрісті бос қалдырыңыз."
    }
    InvitationAlreadyAccepted = "invitation_already_accepted" {
        en "The invitation of another user was accepted before, and the inviter cannot be changed. Leave the code out."
        ru "Приглашение другого пользователя уже принято, изменить пригласившего нельзя. Оставьте поле кода пустым."
        kk "Басқа пайдаланушының шақыруы бұрын қабылданған, шақырушыны өзгертуге болмайды. Код өрісін бос қалдырыңыз."
    }

    // Profiles.
    InvalidName = "invalid_name" {
        en "The name is empty, too long, or has invisible characters. Enter 1 to 64 visible characters."
        ru "Значение пустое, слишком длинное или содержит невидимые символы. Введите от 1 до 64 видимых символов."
        kk "Мән бос, тым ұзын немесе онда көрінбейтін таңбалар бар. 1-ден 64-ке дейін көрінетін таңба енгізіңіз."
    }
    InvalidEmail = "invalid_email" {
        en "The email address is not valid. Use the form name@example.com, with at most 254 characters, at most 64 of them before the @, and without quotes, brackets, comments and IP addresses."
        ru "Неверный адрес электронной почты. Введите его в виде name@example.com: не более 254 символов, из них не более 64 до @, без кавычек, скобок, комментариев и IP-адресов."
        kk "Электрондық пошта мекенжайы дұрыс емес. Оны name@example.com түрінде енгізіңіз: 254 таңбадан, ал @ белгісіне дейін 64 таңбадан аспасын, тырнақша, жақша, түсініктеме және IP-мекенжай болмасын."
    }
    EmailTaken = "email_taken" {
        en "Another user has this email address. Use another address."
        ru "Этот адрес электронной почты уже занят. Укажите другой."
        kk "Бұл электрондық пошта мекенжайын басқа пайдаланушы қолданады. Басқа мекенжай көрсетіңіз."
    }
    InvalidExternalId = "invalid_external_id" {
        en "The external id is empty, has more than 255 bytes, or has control characters or white space at its start or end. Correct the id."
        ru "Внешний идентификатор пуст, длиннее 255 байт, содержит управляющие символы либо начинается или заканчивается пробелом. Исправьте его."
        kk "Сыртқы идентификатор бос, 255 байттан ұзын, басқару таңбалары бар не бос орыннан басталады немесе бос орынмен аяқталады. Оны түзетіңіз."
    }
    ExternalIdTaken = "external_id_taken" {
        en "Another user has this external id. Use another id, or change the other user first."
        ru "Этот внешний идентификатор уже занят. Укажите другой или сначала измените данные другого пользователя."
        kk "Бұл сыртқы идентификатор басқа пайдаланушыда бар. Басқасын көрсетіңіз немесе алдымен сол пайдаланушының деректерін өзгертіңіз."
    }
    InvalidMetadata = "invalid_metadata" {
        en "The metadata are not an object, or they have more than 4096 bytes, more than 32 nested objects and arrays, the character U+0000, or a number that would be rounded. Correct the metadata. Send large numbers as texts."
        ru "Метаданные не являются объектом, занимают более 4096 байт, имеют более 32 уровней вложенности, символ U+0000 или число, которое было бы округлено. Исправьте метаданные. Большие числа передавайте строками."
        kk "Метадеректер объект емес, 4096 байттан асады, 32-ден көп кірістіру деңгейі, U+0000 таңбасы немесе дөңгелектенетін сан бар. Метадеректерді түзетіңіз. Үлкен сандарды жол түрінде жіберіңіз."
    }
    MetadataTooLong = "invalid_metadata.too_long" {
        en "The metadata are too long. Send an object of at most 4096 bytes, without white space."
        ru "Метаданные слишком длинные. Отправьте объект не длиннее 4096 байт, без лишних пробелов."
        kk "Метадеректер тым ұзын. Артық бос орындарсыз 4096 байттан аспайтын объект жіберіңіз."
    }
    InvalidContext = "invalid_context" {
        en "The context is not a JSON object, or has more than 4096 bytes. Send a smaller object or omit it."
        ru "Контекст не является объектом JSON или занимает более 4096 байт. Отправьте объект поменьше или не передавайте его."
        kk "Контекст JSON объектісі емес немесе 4096 байттан асады. Кішірек объект жіберіңіз немесе оны мүлде жібермеңіз."
    }

    // Tokens and rights.
    NotAuthenticated = "not_authenticated" {
        en "You are not signed in. Sign in, and send the access token in the header `Authorization: Bearer …`."
        ru "Вы не вошли. Войдите и передайте токен доступа в заголовке `Authorization: Bearer …`."
        kk "Сіз кірмегенсіз. Кіріп, қатынау токенін `Authorization: Bearer …` тақырыбында жіберіңіз."
    }
    SeveralAuthorizations = "not_authenticated.repeated" {
        en "The request has several `Authorization` headers. Send only one."
        ru "В запросе несколько заголовков `Authorization`. Отправьте только один."
        kk "Сұраныста бірнеше `Authorization` тақырыбы бар. Біреуін ғана жіберіңіз."
    }
    TokenNotValid = "token_not_valid" {
        en "The session has ended, or the token is not valid. Refresh the tokens or sign in again."
        ru "Сеанс завершён, или токен недействителен. Обновите токены или войдите снова."
        kk "Сеанс аяқталған немесе токен жарамсыз. Токендерді жаңартыңыз немесе қайта кіріңіз."
    }
    BearerTwice = "token_not_valid.bearer_twice" {
        en "The header `Authorization` has the scheme `Bearer` twice. Send it once. Swagger UI adds it to the token."
        ru "В заголовке `Authorization` схема `Bearer` указана дважды. Укажите её один раз: Swagger UI добавляет её сам."
        kk "`Authorization` тақырыбында `Bearer` схемасы екі рет көрсетілген. Оны бір рет көрсетіңіз: Swagger UI оны өзі қосады."
    }
    RefreshReused = "refresh_reused" {
        en "The session was ended, because its refresh token was used twice. Sign in again."
        ru "Сеанс завершён, потому что его токен обновления был использован дважды. Войдите снова."
        kk "Жаңарту токені екі рет қолданылғандықтан, сеанс аяқталды. Қайта кіріңіз."
    }
    InvalidTokenType = "invalid_token_type" {
        en "The token type is not valid. Send `access` or `refresh`."
        ru "Неверный тип токена. Передайте `access` или `refresh`."
        kk "Токен түрі дұрыс емес. `access` немесе `refresh` жіберіңіз."
    }
    StaffOnly = "staff_only" {
        en "This is available to staff only. Sign in as a member of staff."
        ru "Это доступно только сотрудникам. Войдите как сотрудник."
        kk "Бұл тек қызметкерлерге қолжетімді. Қызметкер ретінде кіріңіз."
    }
    AdminOnly = "admin_only" {
        en "This is available to admins only. Ask an admin to do it or to give you the role."
        ru "Это доступно только администраторам. Попросите администратора сделать это или выдать вам роль."
        kk "Бұл тек әкімшілерге қолжетімді. Әкімшіден мұны орындауды немесе сізге рөл беруді сұраңыз."
    }
    LastAdmin = "last_admin" {
        en "The user is the last active admin. Make another user an admin first."
        ru "Это последний активный администратор. Сначала назначьте администратором другого пользователя."
        kk "Бұл — соңғы белсенді әкімші. Алдымен басқа пайдаланушыны әкімші етіп тағайындаңыз."
    }
    InvalidRole = "invalid_role" {
        en "The role is unknown. Use `support` or `admin`."
        ru "Неизвестная роль. Используйте `support` или `admin`."
        kk "Рөл белгісіз. `support` немесе `admin` қолданыңыз."
    }
    InvalidReason = "invalid_reason" {
        en "The reason is empty, too long, or has control characters. Enter a text of 1 to 500 characters."
        ru "Причина не указана, слишком длинная или содержит управляющие символы. Введите текст от 1 до 500 символов."
        kk "Себеп бос, тым ұзын немесе онда басқару таңбалары бар. 1-ден 500-ге дейін таңбадан тұратын мәтін енгізіңіз."
    }
    InvalidAction = "invalid_action" {
        en "The kind of change is unknown. Use a value that the documentation lists."
        ru "Неизвестный вид изменения. Используйте значение из документации."
        kk "Өзгерістің түрі белгісіз. Құжаттамадағы мәнді қолданыңыз."
    }

    // Lists.
    InvalidText = "invalid_text" {
        en "The text is too long or has control characters. Shorten it, or remove the control characters."
        ru "Текст слишком длинный или содержит управляющие символы. Сократите его или удалите эти символы."
        kk "Мәтін тым ұзын немесе онда басқару таңбалары бар. Оны қысқартыңыз немесе сол таңбаларды жойыңыз."
    }
    ControlCharacters = "invalid_text.control_characters" {
        en "The text has control characters. Remove them."
        ru "В тексте есть управляющие символы. Удалите их."
        kk "Мәтінде басқару таңбалары бар. Оларды жойыңыз."
    }
    SearchTooLong = "invalid_text.too_long" {
        en "The search is too long. Use at most 100 characters."
        ru "Поисковый запрос слишком длинный. Используйте не более 100 символов."
        kk "Іздеу сұранысы тым ұзын. 100 таңбадан асырмаңыз."
    }
    InvalidLimit = "invalid_limit" {
        en "The page size `limit` is not valid. Use a whole number from 1 to 100."
        ru "Неверный размер страницы `limit`. Укажите целое число от 1 до 100."
        kk "`limit` бет өлшемі дұрыс емес. 1-ден 100-ге дейінгі бүтін сан көрсетіңіз."
    }
    InvalidOffset = "invalid_offset" {
        en "The offset must be a whole number from 0 to 100000, without a cursor. Follow the cursor in `next` to read further."
        ru "Смещение `offset` должно быть целым числом от 0 до 100000, без курсора. Чтобы читать дальше, используйте ссылку `next`."
        kk "`offset` ығысуы курсорсыз, 0-ден 100000-ға дейінгі бүтін сан болуы керек. Әрі қарай оқу үшін `next` сілтемесін қолданыңыз."
    }
    OffsetWithCursor = "invalid_offset.with_cursor" {
        en "The request has both `offset` and `cursor`. Give only one of them."
        ru "В запросе есть и `offset`, и `cursor`. Укажите что-то одно."
        kk "Сұраныста `offset` пен `cursor` қатар берілген. Біреуін ғана көрсетіңіз."
    }
    InvalidCursor = "invalid_cursor" {
        en "The cursor is not valid. Use the URLs in `next` and `previous` unchanged."
        ru "Неверный курсор. Используйте ссылки `next` и `previous` без изменений."
        kk "Курсор дұрыс емес. `next` және `previous` сілтемелерін өзгертпей қолданыңыз."
    }
    InvalidSearch = "invalid_search" {
        en "The search has more than five different terms, or several terms that are all shorter than three characters. Use at most five terms, and at least one longer term if there are several."
        ru "В поисковом запросе больше пяти разных слов или несколько слов, и все они короче трёх символов. Используйте не более пяти слов, и хотя бы одно из нескольких — подлиннее."
        kk "Іздеу сұранысында бестен көп әртүрлі сөз бар немесе бірнеше сөздің бәрі үш таңбадан қысқа. Бес сөзден асырмаңыз және бірнеше сөздің кемінде біреуі ұзынырақ болсын."
    }
    TooManySearchTerms = "invalid_search.too_many_terms" {
        en "The search has too many different terms. Use at most 5."
        ru "В поисковом запросе слишком много разных слов. Используйте не более 5."
        kk "Іздеу сұранысында әртүрлі сөз тым көп. 5 сөзден асырмаңыз."
    }
    ShortSearchTerms = "invalid_search.short_terms" {
        en "All search terms are shorter than 3 characters. Use at least one longer term, or a single short term."
        ru "Все слова поискового запроса короче 3 символов. Добавьте хотя бы одно слово подлиннее или оставьте одно короткое."
        kk "Іздеу сұранысындағы барлық сөз 3 таңбадан қысқа. Кемінде бір ұзынырақ сөз қосыңыз немесе бір ғана қысқа сөз қалдырыңыз."
    }
    SearchTooBroad = "search_too_broad" {
        en "The search takes too long. Use longer or rarer search terms, other filters, or a cursor instead of the offset."
        ru "Поиск занимает слишком много времени. Используйте более длинные или редкие слова, другие фильтры или курсор вместо смещения."
        kk "Іздеу тым ұзаққа созылады. Ұзынырақ немесе сирек сөздерді, басқа сүзгілерді не ығысудың орнына курсорды қолданыңыз."
    }

    // Fields and other parts of requests.
    ValidationFailed = "validation_failed" {
        en "Several fields are not valid. Correct the marked fields."
        ru "Несколько полей заполнены неверно. Исправьте отмеченные поля."
        kk "Бірнеше өріс дұрыс толтырылмаған. Белгіленген өрістерді түзетіңіз."
    }
    Conflict = "conflict" {
        en "Several fields conflict with existing data. Change the marked fields."
        ru "Несколько полей противоречат существующим данным. Измените отмеченные поля."
        kk "Бірнеше өріс бар деректерге қайшы келеді. Белгіленген өрістерді өзгертіңіз."
    }
    Required = "required" {
        en "This field is required. Fill it in."
        ru "Это поле обязательно. Заполните его."
        kk "Бұл өріс міндетті. Оны толтырыңыз."
    }
    TokenRequired = "required.token" {
        en "The token is empty. Send the token as it was issued."
        ru "Токен пуст. Передайте его в том виде, в котором он был выдан."
        kk "Токен бос. Оны берілген күйінде жіберіңіз."
    }
    WrongType = "wrong_type" {
        en "The value has the wrong type. Send it with the type in the OpenAPI document."
        ru "Неверный тип значения. Передайте значение типа, указанного в документе OpenAPI."
        kk "Мән түрі дұрыс емес. OpenAPI құжатында көрсетілген түрдегі мән жіберіңіз."
    }
    StringExpected = "wrong_type.string" {
        en "The value has the wrong type. Send a string."
        ru "Неверный тип значения. Передайте строку."
        kk "Мән түрі дұрыс емес. Мәтін жолын жіберіңіз."
    }
    DigitsExpected = "wrong_type.digits" {
        en "The value has the wrong type. Send a string of digits."
        ru "Неверный тип значения. Передайте строку из цифр."
        kk "Мән түрі дұрыс емес. Цифрлардан тұратын жол жіберіңіз."
    }
    ObjectExpected = "wrong_type.object" {
        en "The value has the wrong type. Send an object."
        ru "Неверный тип значения. Передайте объект."
        kk "Мән түрі дұрыс емес. Объект жіберіңіз."
    }
    BooleanExpected = "wrong_type.boolean" {
        en "The value has the wrong type. Send `true` or `false`."
        ru "Значение имеет неверный тип. Передайте `true` или `false`."
        kk "Мәннің түрі дұрыс емес. `true` немесе `false` жіберіңіз."
    }
    NullExpected = "wrong_type.null" {
        en "This field can only be cleared. Send `null`."
        ru "Это поле можно только очистить. Передайте `null`."
        kk "Бұл өрісті тек тазалауға болады. `null` жіберіңіз."
    }
    UnknownField = "unknown_field" {
        en "This field is unknown or cannot be set. Remove it."
        ru "Это поле неизвестно, или его нельзя задать. Уберите его."
        kk "Бұл өріс белгісіз немесе оны орнатуға болмайды. Оны алып тастаңыз."
    }
    UnknownParameter = "unknown_parameter" {
        en "The query parameter is unknown. Correct its name or remove it."
        ru "Неизвестный параметр запроса. Исправьте его имя или уберите его."
        kk "Сұраныс параметрі белгісіз. Атауын түзетіңіз немесе оны алып тастаңыз."
    }
    InvalidId = "invalid_id" {
        en "The id is not a UUID. Send the id exactly as the service returned it."
        ru "Идентификатор не является UUID. Передайте его в точности так, как его вернул сервис."
        kk "Идентификатор UUID емес. Оны дәл сервис қайтарған күйінде жіберіңіз."
    }
    NotFound = "not_found" {
        en "The path, user or session does not exist. Correct the URL."
        ru "Такого пути, пользователя или сеанса нет. Исправьте адрес."
        kk "Мұндай жол, пайдаланушы немесе сеанс жоқ. Мекенжайды түзетіңіз."
    }

    // Requests as a whole.
    BadRequest = "bad_request" {
        en "The request is malformed. Correct its path, query and headers."
        ru "Запрос составлен неверно. Исправьте его путь, параметры и заголовки."
        kk "Сұраныс дұрыс құрылмаған. Оның жолын, параметрлерін және тақырыптарын түзетіңіз."
    }
    RepeatedParameter = "bad_request.repeated_parameter" {
        en "The query parameter is repeated. Send it once."
        ru "Параметр запроса повторяется. Передайте его один раз."
        kk "Сұраныс параметрі қайталанады. Оны бір рет жіберіңіз."
    }
    InvalidHostHeader = "bad_request.host" {
        en "The request does not name one valid host. Send exactly one `Host` header with a host name or an IP address and an optional port."
        ru "В запросе не указан один допустимый хост. Передайте ровно один заголовок `Host` с именем хоста или IP-адресом и, если нужно, портом."
        kk "Сұраныста бір дұрыс хост көрсетілмеген. Хост атауы немесе IP-мекенжайы және қажет болса порты бар дәл бір `Host` тақырыбын жіберіңіз."
    }
    MalformedReport = "bad_request.report" {
        en "The report must be a query, a form or JSON, with at most 200 reports in one request. Correct the settings of the gateway."
        ru "Отчёт должен быть строкой запроса, формой или JSON, не более 200 отчётов в одном запросе. Исправьте настройки шлюза."
        kk "Есеп сұраныс жолы, пішін немесе JSON болуы керек, бір сұраныста 200 есептен аспауы тиіс. Шлюз баптауларын түзетіңіз."
    }
    MalformedJson = "malformed_json" {
        en "The body is not one valid JSON object. Correct its syntax."
        ru "Тело запроса не является правильным объектом JSON. Исправьте его синтаксис."
        kk "Сұраныс денесі дұрыс JSON объектісі емес. Синтаксисін түзетіңіз."
    }
    JsonSyntax = "malformed_json.syntax" {
        en "The body is not valid JSON (line {line}, column {column}). Correct its syntax."
        ru "В теле запроса ошибка JSON (строка {line}, столбец {column}). Исправьте синтаксис."
        kk "Сұраныс денесінде JSON қатесі бар ({line}-жол, {column}-баған). Синтаксисін түзетіңіз."
    }
    JsonDuplicateKey = "malformed_json.duplicate_key" {
        en "An object in the body has the same key twice (line {line}, column {column}). Send each key once."
        ru "В теле запроса один и тот же ключ объекта указан дважды (строка {line}, столбец {column}). Передайте каждый ключ один раз."
        kk "Сұраныс денесінде объектінің бір кілті екі рет берілген ({line}-жол, {column}-баған). Әр кілтті бір рет жіберіңіз."
    }
    JsonObjectExpected = "malformed_json.not_object" {
        en "The body is not a JSON object. Send one object with the fields of the request."
        ru "Тело запроса не является объектом JSON. Отправьте один объект с полями запроса."
        kk "Сұраныс денесі JSON объектісі емес. Сұраныс өрістері бар бір объект жіберіңіз."
    }
    UnsupportedMediaType = "unsupported_media_type" {
        en "The media type or the encoding of the body is not supported. Send the body as `application/json`, in UTF-8 and not compressed."
        ru "Формат или кодировка тела запроса не поддерживается. Отправьте тело как `application/json` в UTF-8, без сжатия."
        kk "Сұраныс денесінің пішімі немесе кодтауы қолданылмайды. Денені `application/json` түрінде, UTF-8 кодтауымен, сығымдамай жіберіңіз."
    }
    PhoneDigits = "bad_request.phone_digits" {
        en "The digits are not the last four digits of the phone. Nothing has changed."
        ru "Это не последние четыре цифры телефона. Ничего не изменилось."
        kk "Бұл — телефон нөмірінің соңғы төрт цифры емес. Ештеңе өзгерген жоқ."
    }
    PayloadTooLarge = "payload_too_large" {
        en "The body is larger than 16 KiB. Send a smaller body."
        ru "Тело запроса больше 16 КиБ. Отправьте меньше данных."
        kk "Сұраныс денесі 16 КиБ-тан үлкен. Азырақ дерек жіберіңіз."
    }
    MethodNotAllowed = "method_not_allowed" {
        en "The path does not support this method. Use a method from the header `Allow`."
        ru "Этот путь не поддерживает такой метод. Используйте метод из заголовка `Allow`."
        kk "Бұл жол мұндай әдісті қолдамайды. `Allow` тақырыбындағы әдісті қолданыңыз."
    }
    RequestTimeout = "request_timeout" {
        en "The request was not received in time. Send it again."
        ru "Запрос не был получен вовремя. Отправьте его ещё раз."
        kk "Сұраныс уақытында қабылданбады. Оны қайта жіберіңіз."
    }
    MisdirectedRequest = "misdirected_request" {
        en "This server returns codes in responses, so it accepts only requests for hosts of this machine. Send the request to `localhost`, or configure a gateway for messages."
        ru "Этот сервер возвращает коды в ответах, поэтому принимает только запросы к хостам этой машины. Отправьте запрос на `localhost` или настройте шлюз для сообщений."
        kk "Бұл сервер кодтарды жауаптарда қайтарады, сондықтан тек осы машинаның хосттарына арналған сұраныстарды қабылдайды. Сұранысты `localhost` хостына жіберіңіз немесе хабарлама шлюзін баптаңыз."
    }
    InvalidSignature = "invalid_signature" {
        en "The signature of the report is not valid. Configure the same secret and URL on both sides."
        ru "Неверная подпись отчёта. Настройте одинаковые секрет и URL на обеих сторонах."
        kk "Есептің қолтаңбасы дұрыс емес. Екі жақта да бірдей құпия мен URL орнатыңыз."
    }
    Unavailable = "unavailable" {
        en "The service is temporarily unavailable. Try again in {seconds, plural, one {# second} other {# seconds}}."
        ru "Сервис временно недоступен. Попробуйте снова через {seconds, plural, one {# секунду} few {# секунды} many {# секунд} other {# секунды}}."
        kk "Сервис уақытша қолжетімсіз. {seconds} секундтан кейін қайталап көріңіз."
    }
    Draining = "unavailable.draining" {
        en "The server is shutting down. Send requests to another instance."
        ru "Сервер завершает работу. Отправляйте запросы другому экземпляру."
        kk "Сервер жұмысын аяқтап жатыр. Сұраныстарды басқа серверге жіберіңіз."
    }
    InternalError = "internal_error" {
        en "The service failed to process the request. Try again later, or give the `request_id` to support."
        ru "Не удалось обработать запрос. Попробуйте позже или сообщите `request_id` службе поддержки."
        kk "Сұранысты өңдеу мүмкін болмады. Кейінірек қайталап көріңіз немесе қолдау қызметіне `request_id` мәнін айтыңыз."
    }
    PeerAddressMissing = "internal_error.peer_address" {
        en "The server does not get the addresses of clients. Its log has the reason."
        ru "Сервер не получает адреса клиентов. Причина указана в его журнале."
        kk "Сервер клиенттердің мекенжайларын алмайды. Себебі оның журналында көрсетілген."
    }

    // Configuration.
    InvalidRegion = "invalid_region" {
        en "The region is not known. Use an ISO region code such as `RU`."
        ru "Регион неизвестен. Укажите код региона ISO, например `RU`."
        kk "Аймақ белгісіз. Аймақтың ISO кодын көрсетіңіз, мысалы `RU`."
    }
    InvalidLocale = "invalid_locale" {
        en "The locale is not valid. Use a BCP 47 tag, such as `ru` or `pt-BR`."
        ru "Неверное обозначение языка. Укажите тег BCP 47, например `ru` или `pt-BR`."
        kk "Тіл белгісі дұрыс емес. BCP 47 тегін көрсетіңіз, мысалы `ru` немесе `pt-BR`."
    }
    InvalidAddress = "invalid_address" {
        en "The address must be an IP address. Send an IPv4 or IPv6 address."
        ru "Адрес должен быть IP-адресом. Укажите адрес IPv4 или IPv6."
        kk "Мекенжай IP-мекенжай болуы керек. IPv4 немесе IPv6 мекенжайын көрсетіңіз."
    }
    InvalidTestNumber = "invalid_test_number" {
        en "The test number is not valid. Give a phone, a code and a date."
        ru "Неверный тестовый номер. Укажите телефон, код и дату."
        kk "Тест нөмірі дұрыс емес. Телефонды, кодты және күнді көрсетіңіз."
    }
    InvalidTemplate = "invalid_template" {
        en "The template of a message is not valid. It must contain the placeholder for the code once or more."
        ru "Неверный шаблон сообщения. В нём должно быть место для кода."
        kk "Хабарлама үлгісі дұрыс емес. Онда кодқа арналған орын болуы керек."
    }
    InvalidHost = "invalid_host" {
        en "The host is not an ASCII name. Leave out scheme, port and path."
        ru "Имя хоста должно состоять из символов ASCII. Укажите его без схемы, порта и пути."
        kk "Хост атауы ASCII таңбаларынан тұруы керек. Оны схемасыз, портсыз және жолсыз көрсетіңіз."
    }
    InvalidAndroidHash = "invalid_android_hash" {
        en "The hash of the Android app has an invalid form. Use 11 characters of Base64, such as `FA+9qCX9VSu`."
        ru "Неверный хеш приложения Android. Укажите 11 символов Base64, например `FA+9qCX9VSu`."
        kk "Android қолданбасының хеші дұрыс емес. Base64 түріндегі 11 таңба көрсетіңіз, мысалы `FA+9qCX9VSu`."
    }
    InvalidPolicy = "invalid_policy" {
        en "A field of the policy is out of bounds. Correct the field."
        ru "Значение в политике вне допустимых границ. Исправьте его."
        kk "Саясаттағы мән рұқсат етілген шектен тыс. Оны түзетіңіз."
    }
}
