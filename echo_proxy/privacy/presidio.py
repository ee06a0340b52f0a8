"""What does Microsoft Presidio find in a text, beside what patterns find?

Presidio and spaCy are the extra `privacy`; they are imported when the first policy that wants them is loaded, never
before: that takes seconds. Nothing is downloaded: neither a model of a language, which Presidio would fetch when it is
missing, nor the list of public suffixes that `tldextract` fetches on its first use.
"""

import logging
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from threading import Lock
from typing import Any

from echo_proxy.errors import FAULTS, PolicyError
from echo_proxy.policy_keeping import PresidioPolicy
from echo_proxy.privacy.finding import Certainty, Finding

_FIELD = "admission.privacy.presidio"
_OUR_KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip_address",
    "US_SSN": "national_id",
    "US_ITIN": "national_id",
    "UK_NINO": "national_id",
    "UK_NHS": "national_id",
    "ES_NIF": "national_id",
    "ES_NIE": "national_id",
    "IT_FISCAL_CODE": "national_id",
    "PL_PESEL": "national_id",
    "IN_AADHAAR": "national_id",
    "SG_NRIC_FIN": "national_id",
    "FI_PERSONAL_IDENTITY_CODE": "national_id",
    "KR_RRN": "national_id",
    "TH_TNIN": "national_id",
}
"""Presidio's names of what patterns find as well; others are its name in lower case."""
_NOT_BY_DEFAULT = frozenset({"DATE_TIME", "URL", "EMAIL_ADDRESS", "IP_ADDRESS", "CREDIT_CARD", "IBAN_CODE"})
"""The first two are seldom personal. Of the others, patterns alone find all on the dev half of
bench/keeping/pii_labelled.jsonl, and Presidio adds 20 that are wrong: parts of names, and versions for addresses."""
_MAX_CHARACTERS = 10_000_000
"""spaCy's own limit of a million is there for its parser, which is not used."""
_loading = Lock()


def find(text: str, rules: PresidioPolicy) -> list[Finding]:
    """What it finds with at least the policy's confidence. Takes milliseconds, with a model tens of them.

    Raises:
        PolicyError: see `load`.
    """
    if not text:
        return []
    analyzer, entities = load(rules)
    found = analyzer.analyze(text, language=rules.language, entities=entities, score_threshold=rules.min_score)
    return [Finding(_kind(one.entity_type), one.start, one.end, _certainty(one.score)) for one in found]


def load(rules: PresidioPolicy) -> tuple[Any, list[str]]:
    """Presidio's analyzer as the policy wants it, and what it looks for. Once per policy and process, by whichever
    thread comes first; takes seconds, so a proxy does it when it starts.

    Raises:
        PolicyError: the extra `privacy` or the spaCy model is not installed, or an entity is not known; it names the
            field.
    """
    with _loading:
        return _loaded(rules)


@cache
def _loaded(rules: PresidioPolicy) -> tuple[Any, list[str]]:
    if find_spec("presidio_analyzer") is None or find_spec("spacy") is None:
        raise PolicyError(f"{_FIELD}: expected the extra `privacy` (pip install 'echo-proxy[privacy]'), found none")
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from presidio_analyzer.recognizer_registry import RecognizerRegistryProvider

    # its warnings of recognisers for other languages concern nobody who reads this log
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    engine = SpacyNlpEngine(models=[{"lang_code": rules.language, "model_name": rules.model or "blank"}])
    # instead of engine.load(), which would download what is missing
    setattr(engine, "nlp", {rules.language: _pipeline(rules)})  # noqa: B010 - typed as None
    languages = [rules.language]
    registry = RecognizerRegistryProvider(
        registry_configuration={"supported_languages": languages}
    ).create_recognizer_registry()
    if rules.model is not None:
        registry.add_nlp_recognizer(nlp_engine=engine)
    _stay_offline(registry.recognizers)
    analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=languages)
    return analyzer, _entities(analyzer, rules)


def _pipeline(rules: PresidioPolicy) -> Any:
    """The operator's model; without one a tokenizer whose lemmas are the words in lower case, for the context words."""
    import spacy
    from spacy.language import Language

    if rules.model is None:
        try:
            pipeline = spacy.blank(rules.language)
        except ImportError as error:
            raise PolicyError(f"{_FIELD}.language: expected a language of spaCy's, got {rules.language!r}") from error
        Language.component("echo_lemmas", func=_lower_case_lemmas)
        pipeline.add_pipe("echo_lemmas")
    elif spacy.util.is_package(rules.model):
        pipeline = _installed(rules.model)
    else:
        raise PolicyError(
            f"{_FIELD}.model: expected an installed spaCy model (python -m spacy download {rules.model}), found none"
        )
    pipeline.max_length = _MAX_CHARACTERS
    return pipeline


def _installed(model: str) -> Any:
    import spacy

    try:
        return spacy.load(model)
    except (ImportError, OSError, *FAULTS) as error:  # of another version of spaCy's, or a package that is no model
        raise PolicyError(f"{_FIELD}.model: expected a spaCy model that can be loaded, got {model}: {error}") from error


def _lower_case_lemmas(document: Any) -> Any:
    for token in document:
        token.lemma_ = token.lower_
    return document


def _stay_offline(recognizers: Iterable[Any]) -> None:
    """The e-mail recogniser asks `tldextract` for the domain, which would fetch a list; the package has a copy."""
    from presidio_analyzer.predefined_recognizers import EmailRecognizer
    from tldextract import TLDExtract

    domain_of = TLDExtract(suffix_list_urls=(), cache_dir=None)
    for recognizer in recognizers:
        if isinstance(recognizer, EmailRecognizer):
            setattr(recognizer, "validate_result", lambda found: domain_of(found).fqdn != "")  # noqa: B010 - typed


def _entities(analyzer: Any, rules: PresidioPolicy) -> list[str]:
    known = analyzer.get_supported_entities(rules.language)
    if rules.entities is None:
        return sorted(set(known) - _NOT_BY_DEFAULT)
    unknown = sorted(set(rules.entities) - set(known))
    if unknown:
        raise PolicyError(f"{_FIELD}.entities: expected some of {', '.join(sorted(known))}, got {unknown[0]}")
    return list(rules.entities)


def _kind(entity: str) -> str:
    return _OUR_KINDS.get(entity, entity.lower())


def _certainty(score: float) -> Certainty:
    """A full score is a checksum that holds; patterns of ours that know more go before all the same."""
    return 2 if score >= 1 else 1
