"""Replay over scripted models."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.errors import AskError
from echo_proxy.online.receive import partition_of
from echo_proxy.types import Load, Observation, Replayed
from tests.builders import NOW, record
from tests.upkeep.rounds import ScriptedModels, World, doubtful, policy_with

OLD = Replayed(NOW - 100.0, "large-1", 2, False, 0.5)


def report_of(run: Any) -> dict[str, Any]:
    return dict(run.report["replay"])


async def test_a_wrong_answer_is_replaced_by_what_the_teacher_says_again_and_again() -> None:
    """The new one begins afresh: nothing that was learned of the old one counts for it, and the history tells."""
    world = World()
    world.hold([doubtful(observations=(Observation(0.1, True, NOW),), offloads=2.0, confirmed_by=("b",))])
    run = await world.round()
    after = world.store.examples["e1"]

    assert run.ending == "done"
    assert after.response == "Paris."
    assert after.teacher == "large-1"
    assert (after.uses, after.gain, after.regret, after.offloads) == (0.0, 0.0, 0.0, 2.0)
    assert (after.observations, after.confirmed_by, after.version) == ((), (), 2)
    assert [(one.is_replaced, one.n_answers, one.at) for one in after.history] == [(True, 2, NOW)]
    assert after.history[0].replaced == hashlib.sha256(b"Lyon.").hexdigest()[:16]


async def test_a_right_answer_stays_with_all_that_is_known_of_it() -> None:
    """But for its regret: only new doubts count."""
    world = World()
    world.hold([doubtful(response="Paris.")])
    run = await world.round()
    after = world.store.examples["e1"]

    assert (after.response, after.uses, after.gain, after.regret) == ("Paris.", 3.0, 1.0, 0.0)
    assert [one.is_replaced for one in after.history] == [False]
    assert report_of(run)["n_improved"] == 0


async def test_a_teacher_that_repeats_itself_is_asked_no_more() -> None:
    """It would go on doing so."""
    world = World(policy_with(upkeep={"replay": {"n_answers": 5}}))
    world.hold([doubtful()])
    await world.round()

    assert world.models is not None
    assert len(world.models.asked) == 2


async def test_most_of_the_new_answers_win() -> None:
    """One that the others contradict does not."""
    answers = ["Rome is the capital.", "Paris is the capital.", "It is Paris."]
    world = World(models=ScriptedModels(lambda question, n: answers[n - 1]))
    world.hold([doubtful(response="Tunis!")])
    await world.round()

    assert world.store.examples["e1"].response in answers[1:]


async def test_new_answers_that_contradict_one_another_change_nothing() -> None:
    """Nobody knows better then."""
    answers = ["Rome.", "Paris.", "Oslo."]
    world = World(models=ScriptedModels(lambda question, n: answers[n - 1]))
    world.hold([doubtful()])
    run = await world.round()

    assert world.store.examples["e1"].response == "Lyon."
    assert report_of(run)["n_undecided"] == 1


async def test_a_judge_compares_both_ways_round() -> None:
    """The best of the new answers is kept when it is better than the stored one, and as good as its verdict says."""
    worth = {"Lyon.": 0, "Marne.": -1, "Paris.": 2}
    answers = ["Marne.", "Paris.", "Marne."]
    models = ScriptedModels(lambda question, n: answers[n - 1], lambda first, second: worth[first] - worth[second])
    world = World(policy_with(judge=True), models)
    world.hold([doubtful()])
    await world.round()
    after = world.store.examples["e1"]

    assert after.response == "Paris."
    assert after.history[0].verdict == pytest.approx(5 / 6)
    assert after.quality == pytest.approx(0.9 + 0.1 * 2 / 3)
    assert sum(not one.deployment for one in models.asked) == 4


async def test_a_judge_that_always_says_the_same_number_replaces_nothing() -> None:
    """Shown both ways round it contradicts itself."""
    world = World(policy_with(judge=True), ScriptedModels(prefers=lambda first, second: 3))
    world.hold([doubtful()])
    await world.round()

    assert world.store.examples["e1"].response == "Lyon."


@pytest.mark.parametrize(
    "answer", ["", "I cannot help with that.", "How can I help you today? Just ask.", "word " * 3000]
)
async def test_answers_that_would_not_be_admitted_are_not_kept(answer: str) -> None:
    """Empty ones, refusals, phrases, and those that repeat themselves."""
    world = World(models=ScriptedModels(lambda question, n: answer))
    world.hold([doubtful()])
    run = await world.round()

    assert world.store.examples["e1"].response == "Lyon."
    assert report_of(run)["n_answers"] == 0


async def test_an_answer_that_was_cut_is_not_kept() -> None:
    """Only whole ones are."""
    world = World()
    assert world.models is not None
    world.models.finish_reason = "length"
    world.hold([doubtful()])
    await world.round()

    assert world.store.examples["e1"].response == "Lyon."


async def test_the_most_regret_comes_first() -> None:
    """What has none, was replayed too often, has expired or belongs to a conversation is left alone."""
    world = World(policy_with(upkeep={"replay": {"max_times": 1}}))
    world.hold(
        [
            doubtful("little", 0.1),
            doubtful("much", 2.0),
            doubtful("none", 0.001),
            doubtful("often", 3.0, history=(OLD,)),
            doubtful("dead", 3.0, expires_at=NOW - 1),
            doubtful("talk", 3.0, n_turns=2),
        ]
    )
    await world.round()

    assert world.models is not None
    assert list(dict.fromkeys(world.models.taught)) == [
        "What is the capital of much?",
        "What is the capital of little?",
    ]


async def test_the_teacher_is_asked_as_the_caller_was() -> None:
    """With the system prompt and the format of the example, by its deployment, in whichever group that is."""
    rules = policy_with(match={"model_groups": ["nowhere", "auto"]})
    world = World(rules, ScriptedModels(lambda question, n: '{"city": "Paris"}'))
    world.hold([doubtful(system="Be brief.", wants_json=True)])
    await world.round()
    assert world.models is not None
    last = world.models.asked[-1]

    assert [one.model_group for one in world.models.asked] == ["nowhere", "auto", "auto"]
    assert (last.deployment, last.wants_json, last.messages[0].content) == ("large", True, "Be brief.")
    assert world.store.examples["e1"].response == '{"city": "Paris"}'


async def test_what_is_private_is_taken_out_of_a_new_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """And such an answer is never served as it stands."""
    from echo_proxy.privacy.clean import Cleaned
    from echo_proxy.upkeep import fresh

    def without(texts: Any, rules: Any) -> Cleaned:
        return Cleaned(tuple(text.replace("Paris", "[name 1]") for text in texts))

    monkeypatch.setattr(fresh, "clean", without)
    world = World()
    world.hold([doubtful(answer_key="k")])
    await world.round()

    assert (world.store.examples["e1"].response, world.store.examples["e1"].answer_key) == ("[name 1].", "")


@pytest.mark.parametrize(("origin", "kept"), [("traffic", "Ask ann@example.org."), ("shared", "Ask [email 1].")])
async def test_a_copy_in_a_wider_scope_never_holds_personal_data(origin: str, kept: str) -> None:
    """Also where the policy would keep it in the original."""
    rules = policy_with(admission={"privacy": {"personal": "keep"}})
    world = World(rules, ScriptedModels(lambda question, n: "Ask ann@example.org."))
    world.hold([doubtful(origin=origin)])
    await world.round()

    assert world.store.examples["e1"].response == kept


async def test_an_example_that_changed_meanwhile_is_left_as_it_is() -> None:
    """What was asked for it is dropped and counted."""
    world = World()
    world.hold([doubtful()])
    assert world.models is not None
    newer = doubtful(response="Nice.", version=7)
    world.models.before = lambda ask: world.hold([newer])
    run = await world.round()

    assert world.store.examples["e1"] == newer
    assert report_of(run)["n_changed"] == 1


async def test_a_second_round_asks_nothing_twice() -> None:
    """What was replayed has no regret left until it disappoints again."""
    world = World()
    world.hold([doubtful("a"), doubtful("b", response="Paris.")])
    await world.round()
    assert world.models is not None
    n_asked = len(world.models.asked)
    await world.round()

    assert len(world.models.asked) == n_asked


async def test_models_that_are_away_end_the_replay() -> None:
    """After three examples; nothing is noted of them, so they are tried in the next round."""
    world = World()
    assert world.models is not None
    world.models.error = AskError("away")
    world.hold([doubtful(f"e{i}") for i in range(5)])
    run = await world.round()

    assert (report_of(run)["n_failed"], report_of(run)["ended_by"]) == (3, "models_away")
    assert all(not one.history for one in world.store.examples.values())


async def test_an_odd_reply_costs_one_example(caplog: pytest.LogCaptureFixture) -> None:
    """Its words are not logged, they may be somebody's."""

    def answer(question: str, n: int) -> str:
        if "odd" in question:
            raise ValueError("my secret")
        return "Paris."

    world = World(models=ScriptedModels(answer))
    world.hold([doubtful("odd", 2.0), doubtful("even", 1.0)])
    await world.round()

    assert world.store.examples["even"].response == "Paris."
    assert "my secret" not in caplog.text


# ------------------------------------------------------------------ budget and load


async def test_the_budget_ends_the_round() -> None:
    """What an example costs is learned, so that none is begun that could not be paid."""
    world = World(policy_with(upkeep={"usd_per_round": 0.05}))
    assert world.models is not None
    world.models.cost_usd = 0.01
    world.hold([doubtful(f"e{i}", 100.0 - i) for i in range(10)])
    run = await world.round()

    assert run.ending == "budget"
    assert run.cost_usd == pytest.approx(0.04)
    assert report_of(run)["n_replayed"] == 2


async def test_busy_models_are_not_asked() -> None:
    """The round waits until its time is over."""
    world = World(policy_with(upkeep={"seconds_per_round": 5.0}), loads={"large": Load(in_flight=2.0)})
    world.hold([doubtful()])
    run = await world.round()

    assert world.models is not None
    assert world.models.asked == []
    assert (run.ending, sum(world.waits)) == ("budget", 5.0)


async def test_the_load_of_others_does_not_matter() -> None:
    """Only the teacher is asked for its time; up to the idle share of what it can do it has some."""
    world = World(loads={"small": Load(in_flight=50.0), "large": Load(in_flight=1.0)})
    world.hold([doubtful()])
    await world.round()

    assert world.waits == []
    assert world.store.examples["e1"].response == "Paris."


# ------------------------------------------------------------------ cut-off


async def test_replay_ends_where_it_no_longer_pays() -> None:
    """Many right answers in a row end it; the place is noted, told, and the next round begins with it."""
    world = World(policy_with(upkeep={"seconds_per_round": 1e9}))
    world.hold([doubtful(f"e{i:03}", 10.0 * 0.9**i, response="Paris.") for i in range(60)])
    first = await world.round()
    assert world.models is not None
    n_first = report_of(first)["n_replayed"]
    for key, one in list(world.store.examples.items()):
        world.store.examples[key] = replace(one, regret=10.0 * 0.9 ** int(key[1:]), history=())
    second = await world.round()

    assert report_of(first)["ended_by"] == "cutoff"
    assert 20 <= n_first <= 25
    assert report_of(first)["cutoff"] == pytest.approx(10.0 * 0.9**20)
    assert report_of(second)["n_replayed"] == 3


async def test_without_a_teacher_nothing_is_replayed() -> None:
    """The report says why."""
    world = World(policy_with(arms=[{"deployment": "small", "n_examples": 2}]))
    world.hold([doubtful()])
    run = await world.round()

    assert run.report["replay"] == {"skipped": "no arm is a teacher"}


async def test_no_money_asks_no_dear_teacher() -> None:
    """Before the first replay its price is what its answers to callers cost."""
    world = World()
    world.hold([doubtful()])
    world.store.records["d0"] = record("d0", arm="large+0", cost_usd=0.01)
    run = await world.round(usd=0.0)

    assert run.ending == "budget"
    assert world.models is not None
    assert world.models.asked == []


async def test_what_was_asked_under_an_unknown_system_prompt_is_left_alone() -> None:
    """Of an early example it was not kept, of another it was redacted: asked without it, the teacher answers something
    else. The partition, the hash of the prompt, tells."""
    world = World()
    pirate = partition_of("Answer as a pirate.", wants_json=False)
    world.hold([doubtful(partition=pirate), doubtful("e2", system="Answer as [name 1].", partition=pirate)])
    run = await world.round()

    assert world.models is not None
    assert world.models.asked == []
    assert report_of(run)["n_skipped"] == 2
