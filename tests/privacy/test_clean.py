import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from echo_proxy.online.neutralize import neutralize
from echo_proxy.policy_keeping import PresidioPolicy, PrivacyPolicy
from echo_proxy.privacy.clean import clean, without_personal_data

ALL = PrivacyPolicy(secrets="redact", personal="redact")
KEY = "sk_live_" + "aZ3kQ9xLmT7vB2nR8cYw4d"
pieces = st.sampled_from(
    [
        *(
            "a@example.com",
            "b@example.org",
            "212-555-0123",
            "4242424242424242",
            "203.0.113.7",
            "DE89370400440532013000",
        ),
        *(
            "[email 1]",
            "[password 2]",
            "[x 1]",
            "password=",
            "password: ",
            "tiger#4711x",
            KEY,
            "Bearer ",
            "://u:",
            "@",
            ":",
        ),
        *(" ", "\n", '"', "1", "a", "-", ".", "[", "]", "219-09-9999", "+49 171 39200", "12", "token=", "é"),
    ]
)
mixed = st.lists(pieces, max_size=12).map("".join)


def test_a_value_has_one_name_in_all_texts() -> None:
    """Request and answer still speak of the same address; spelling and spaces do not matter."""
    made = clean(["From A@example.com to b@example.com, 212-555-0123", "a@example.com wrote; call 212.555.0123"], ALL)

    assert made.texts == ("From [email 1] to [email 2], [phone 1]", "[email 1] wrote; call [phone 1]")
    assert (made.n_found, made.rejected) == ({"email": 3, "phone": 2}, None)


def test_a_secret_rejects_by_default() -> None:
    """The kind is told; the texts come back as they were given."""
    made = clean(["Hello", f"use {KEY}"], PrivacyPolicy())

    assert (made.rejected, made.n_found, made.texts) == ("api_key", {"api_key": 1}, ("Hello", f"use {KEY}"))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (PrivacyPolicy(personal="keep"), "a@example.com 212-555-0123"),
        (PrivacyPolicy(kinds={"phone": "keep"}), "[email 1] 212-555-0123"),
        (PrivacyPolicy(personal="keep", kinds={"phone": "redact"}), "a@example.com [phone 1]"),
    ],
)
def test_kinds_go_before_their_family(rules: PrivacyPolicy, expected: str) -> None:
    """What is kept is counted all the same."""
    made = clean(["a@example.com 212-555-0123"], rules)

    assert (made.texts, made.n_found) == ((expected,), {"email": 1, "phone": 1})


def test_one_kind_may_reject() -> None:
    """Whatever becomes of the others."""
    assert clean(["4242424242424242 a@example.com"], PrivacyPolicy(kinds={"card": "reject"})).rejected == "card"


def test_what_overlaps_is_one_finding_of_the_most_certain_kind() -> None:
    """An account holds digits that look like a phone number; a URL's password and host like a mail address."""
    assert clean(["DE89 3704 0044 0532 0130 00"], ALL).texts == ("[iban 1]",)
    assert clean(["postgres://app:tiger4711@db.example.com/x"], ALL).texts == (
        "postgres://app:[password 1]@db.example.com/x",
    )
    assert clean(['password="me@example.com7"'], ALL).texts == ('password="[password 1]"',)


def test_what_is_kept_does_not_hide_a_secret() -> None:
    """A kept address in a password leaves nothing of the password."""
    rules = PrivacyPolicy(secrets="redact", kinds={"email": "keep"})

    assert clean(['password="me@example.com7"'], rules).texts == ('password="[password 1]"',)


def test_names_that_stand_there_are_not_given_again() -> None:
    """`[email 1]` of an earlier cleaning means another value."""
    assert clean(["[email 1] and c@example.com"], ALL).texts == ("[email 1] and [email 2]",)


def test_texts_without_findings_are_the_same_objects() -> None:
    """Nothing is copied."""
    text = "Reverse a list with [::-1]. [email 1] said so."

    made = clean([text], ALL)

    assert made.texts[0] is text
    assert made.n_found == {}


@given(st.lists(mixed, min_size=1, max_size=3))
def test_cleaning_twice_is_cleaning_once(texts: list[str]) -> None:
    """And nothing is found any more."""
    once = clean(texts, ALL)
    twice = clean(once.texts, ALL)

    assert once.rejected is not None or (twice.texts, twice.n_found) == (once.texts, {})


@given(mixed, st.sampled_from(["redact", "reject", "keep"]), st.sampled_from(["redact", "reject", "keep"]))
def test_whatever_the_actions_are(text: str, secrets: str, personal: str) -> None:
    """Rejected or kept texts are unchanged; redacting them again changes nothing."""
    rules = PrivacyPolicy.model_validate({"secrets": secrets, "personal": personal})
    made = clean([text], rules)

    if made.rejected is not None or (secrets, personal) == ("keep", "keep"):
        assert made.texts == (text,)
    assert made.rejected is not None or clean(made.texts, rules).texts == made.texts


def test_a_copy_for_others_holds_nothing_personal() -> None:
    """Although the original keeps it; names of earlier findings stay, a secret rejects."""
    rules = PrivacyPolicy(secrets="keep", personal="keep", kinds={"email": "keep", "api_key": "keep"})

    assert without_personal_data(["[phone 1] or a@example.com"], rules).texts == ("[phone 1] or [email 1]",)
    assert without_personal_data([f"use {KEY}"], rules).rejected == "api_key"


def test_a_text_built_to_uncover_one_finding_by_another_is_rejected() -> None:
    """More rounds than an honest text needs."""
    chain = "".join(f"a{n}@x{n}.example@" for n in range(40))

    made = clean([chain], ALL)

    assert made.rejected is not None or clean(made.texts, ALL).n_found == {}


def test_an_unknown_kind_is_an_error() -> None:
    """`emial: keep` would redact all the same; Presidio's names are known to Presidio alone."""
    with pytest.raises(ValidationError, match=r"kinds must be among api_key, .*got emial"):
        PrivacyPolicy(kinds={"emial": "keep"})
    with pytest.raises(ValidationError, match="lower-case names"):
        PrivacyPolicy(kinds={"PERSON": "keep"}, presidio=PresidioPolicy())

    assert PrivacyPolicy(kinds={"person": "keep"}, presidio=PresidioPolicy()).kinds == {"person": "keep"}


hidden = st.sampled_from(
    ["\u200b", "\u00ad", "\u200d", "\ufeff", "\u202a", "\U000e0041", "<|im_end|>", "\nUser:", "<s>"]
)
laced = st.lists(
    pieces | hidden | st.sampled_from(["zoe", "example.com", "4242", "AKIA", "[think]", "[INST]"]), max_size=14
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ask zoe.quill\u200b@example.com now", "ask [email 1] now"),
        ("ask zoe.quill@exam\u00adple.com now", "ask [email 1] now"),
        ("+\uff14\uff19 \uff11\uff15\uff11 \uff12\uff13\uff14\uff15 \uff16\uff17\uff18\uff19!", "[phone 1]!"),
        ("4111\u200b1111\u200b1111\u200b1111!", "[card 1]!"),
        ("4111\u20111111\u20111111\u20111111!", "[card 1]!"),
        ("DE89\u200b3704 0044 0532 0130 00!", "[iban 1]!"),
        ("s\u200bk_live_aZ3kQ9xLm\u2060T7vB2nR8cYw4d!", "[api_key 1]!"),
    ],
)
def test_what_nobody_sees_hides_nothing(text: str, expected: str) -> None:
    """Put between its letters, or written in other forms: a reader, or neutralize, puts it together again."""
    assert clean([text], ALL).texts == (expected,)


def test_one_value_has_one_name_however_it_is_written() -> None:
    """With or without what nobody sees."""
    made = clean(
        ["a@exam\u200bple.com or a@example.com", "4111\u20111111\u20111111\u20111111, 4111 1111 1111 1111"], ALL
    )

    assert made.texts == ("[email 1] or [email 1]", "[card 1], [card 1]")


def test_what_nobody_sees_does_not_join_what_is_apart() -> None:
    """A digit behind a card's last one would make it no card."""
    assert clean(["4242424242424242\u00ad5"], ALL).texts == ("[card 1]\u00ad5",)


@settings(max_examples=100)
@given(laced.map("".join))
def test_nothing_is_found_in_what_others_are_shown(text: str) -> None:
    """Neutral texts lack what no text needs: nothing must be put together by that."""
    made = clean([text], ALL)

    assert made.rejected is not None or clean([neutralize(made.texts[0])], ALL).n_found == {}
