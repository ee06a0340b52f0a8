import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.privacy import checksums


@pytest.mark.parametrize(
    ("holds", "number"),
    [
        (checksums.is_luhn, "4111111111111111"),
        (checksums.is_iban, "GB82WEST12345698765432"),
        (checksums.is_dni, "12345678Z"),
        (checksums.is_dni, "X1234567L"),
        (checksums.is_nir, "255081416802538"),
        (checksums.is_cpf, "11144477735"),
        (checksums.is_resident_id, "11010519491231002X"),
        (checksums.is_codice_fiscale, "RSSMRA85T10A562S"),
        (checksums.is_verhoeff, "2363"),
        (checksums.is_verhoeff, "123451"),
    ],
)
def test_published_examples_hold(holds: object, number: str) -> None:
    """From the standards and the authorities' own documentation."""
    assert callable(holds)
    assert holds(number)


@given(st.text("0123456789", min_size=4, max_size=20), st.data())
def test_a_wrong_digit_is_noticed(body: str, data: st.DataObject) -> None:
    """By Luhn's and by Verhoeff's digit, wherever it is."""
    for holds in (checksums.is_luhn, checksums.is_verhoeff):
        right = next((body + last for last in "0123456789" if holds(body + last)), None)
        if right is None:  # one digit again and again
            continue
        at = data.draw(st.integers(0, len(right) - 1))
        wrong = right[:at] + str((int(right[at]) + data.draw(st.integers(1, 9))) % 10) + right[at + 1 :]

        assert not holds(wrong)


def test_an_account_of_another_length_or_country_is_none() -> None:
    """The check digits alone would let one of 97 through."""
    assert not checksums.is_iban("GB82WEST123456987654320")
    assert not checksums.is_iban("ZZ82WEST12345698765432")
