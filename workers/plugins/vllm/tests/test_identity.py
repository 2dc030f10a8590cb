import unittest

from kvasir_vllm.identity import extend_chain, root_hash


class Identity(unittest.TestCase):
    def test_names_are_those_of_the_gateway(self) -> None:
        """The values are internal/kv's, which computed them by other means."""
        root = root_hash("qwen3", "", "", 16)
        chain: list[bytes] = []
        extend_chain(chain, root, range(1000, 1040), 16)
        self.assertEqual(
            [h.hex() for h in (root, *chain)],
            ["b0c5ed5cc201b1089ffe05edee2d9833", "eb49fb4baa90ae96aae7e3fa48a2e163", "c02a2ab2a259912fc28c668fec4129e5"],
        )

    def test_a_chain_grows_as_it_would_at_once(self) -> None:
        root = root_hash("m", "adapter", "tenant", 4)
        whole: list[bytes] = []
        extend_chain(whole, root, range(40), 4)
        grown: list[bytes] = []
        for at in range(0, 40, 8):
            extend_chain(grown, root, range(at, at + 8), 4)
        self.assertEqual(grown, whole)

    def test_roots_share_nothing(self) -> None:
        roots = {
            root_hash(*spec)
            for spec in (("a", "", "", 16), ("a", "", "", 32), ("a", "x", "", 16), ("a", "", "x", 16), ("ax", "", "", 16))
        }
        self.assertEqual(len(roots), 5)
