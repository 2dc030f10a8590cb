import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

from kvasir_vllm.staging import Prompt, Stager


class AgentsEnd:
    """A link whose other end is the test."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def send(self, op: str, **fields: Any) -> bool:
        self.said.append((op, fields))
        return True


class Stagings(unittest.TestCase):
    def setUp(self) -> None:
        clock = mock.patch("kvasir_vllm.staging.time")
        self.clock = clock.start()
        self.clock.monotonic.return_value = 100.0
        self.addCleanup(clock.stop)
        self.agent = AgentsEnd()
        self.stager = Stager(self.agent, 4)  # type: ignore[arg-type]
        self.stager.up("m")
        self.request = SimpleNamespace(
            request_id="r", all_token_ids=list(range(17)), num_tokens=17, pooling_params=None, mm_features=None,
            prompt_embeds=None, lora_request=None, cache_salt=None,
        )  # fmt: skip
        root = self.stager.root(self.request)  # type: ignore[arg-type]
        assert root is not None
        self.prompt = Prompt(self.request, root)  # type: ignore[arg-type]

    def answer(self, seq: int, slots: list[int], hold_ms: int = 60_000) -> None:
        self.stager.heard({"staged": {"id": "r", "seq": seq, "pool": "p", "slots": slots, "held": 4, "hold_ms": hold_ms}})

    def test_one_question_until_it_is_answered(self) -> None:
        s = self.stager.ask(self.prompt, 1)
        assert s is not None and not s.answered.is_set()
        self.assertIs(self.stager.ask(self.prompt, 2), s)
        self.assertEqual([op for op, _ in self.agent.said], ["stage"])
        self.assertEqual(self.agent.said[0][1]["first"], 1)
        self.answer(s.seq, [7, 8])
        self.assertEqual((s.slots, s.held, s.until), ([7, 8], 4, 160.0))

    def test_the_answer_to_an_earlier_question_is_no_answer(self) -> None:
        first = self.stager.ask(self.prompt, 2)
        assert first is not None
        second = self.stager.ask(self.prompt, 1)  # the engine's cache shrank
        assert second is not None
        self.assertEqual([op for op, _ in self.agent.said], ["stage", "release", "stage"])
        self.answer(first.seq, [1])
        self.assertFalse(second.answered.is_set())
        self.answer(second.seq, [2])
        self.assertEqual(second.slots, [2])

    def test_slots_whose_hold_is_about_to_end_are_staged_again(self) -> None:
        s = self.stager.ask(self.prompt, 0)
        assert s is not None
        self.answer(s.seq, [1])
        self.clock.monotonic.return_value = 139.0
        self.assertIs(self.stager.ask(self.prompt, 0), s)
        self.clock.monotonic.return_value = 141.0  # less than 20 s are left
        self.assertIsNot(self.stager.ask(self.prompt, 0), s)

    def test_an_agent_that_hangs_is_not_asked_again_for_this_request(self) -> None:
        self.assertIsNotNone(self.stager.ask(self.prompt, 0))
        self.clock.monotonic.return_value = 108.0
        for _ in range(2):
            self.assertIsNone(self.stager.ask(self.prompt, 0))
        self.assertEqual([op for op, _ in self.agent.said], ["stage", "release"])

    def test_nobody_is_asked_who_is_not_there(self) -> None:
        self.stager.down()
        self.assertIsNone(self.stager.ask(self.prompt, 0))
        self.assertIsNone(self.stager.root(self.request))  # type: ignore[arg-type]
        self.assertEqual(self.agent.said, [])
