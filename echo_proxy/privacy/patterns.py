"""What do patterns alone find in a text? They need no library and are always on."""

from echo_proxy.privacy.contacts import find_emails, find_ip_addresses
from echo_proxy.privacy.finding import Finding
from echo_proxy.privacy.numbers import find_numbers
from echo_proxy.privacy.phones import find_phones
from echo_proxy.privacy.secrets import find_secrets

_FINDERS = (find_secrets, find_emails, find_ip_addresses, find_numbers, find_phones)


def find(text: str) -> list[Finding]:
    """Secrets and personal data, in no order; findings may overlap. Takes time linear in the text's length."""
    return [found for finder in _FINDERS for found in finder(text)]
