"""Shared facts against a graph written by hand."""

import numpy as np
import pytest

from recbole_slif.explain.facts import ItemFacts, SharedFact, readable
from recbole_slif.graph.knowledge import KnowledgeGraph

# items 1..5 (0 is [PAD]), other entities 6..8; relations 1 directed_by, 2 film, 3 genre, 4 sequel
DIRECTED, FILM, GENRE, SEQUEL = 1, 2, 3, 4
TRIPLES = [
    (1, DIRECTED, 6),
    (6, FILM, 1),  # the same the other way round
    (2, DIRECTED, 6),
    (6, FILM, 2),
    (1, GENRE, 7),
    (2, GENRE, 7),
    (3, GENRE, 7),
    (4, GENRE, 7),
    (1, GENRE, 8),
    (3, GENRE, 8),
    (1, SEQUEL, 4),
    (4, DIRECTED, 8),  # the entity of a genre, by another relation
    (6, GENRE, 8),  # between entities: nobody's fact
]


def graph(triples=TRIPLES, n_items=6):
    heads, relations, tails = (
        np.array(column, dtype=np.int64) for column in zip(*triples, strict=True)
    )
    linked = np.zeros(n_items, dtype=bool)
    linked[1:5] = True
    return KnowledgeGraph(heads, relations, tails, 9, 5, ["?"] * 5, ["?"] * 9, linked)


def shared(item, *history, triples=TRIPLES):
    return ItemFacts(graph(triples), 6).shared(item, np.array(history, dtype=np.int64))


def test_facts_are_those_of_the_graph_the_most_specific_first():
    assert shared(1, 2, 3, 4) == [
        SharedFact(((SEQUEL, True),), 4, 1, (4,), direct=True),
        SharedFact(((DIRECTED, True), (FILM, False)), 6, 2, (2,), direct=False),
        SharedFact(((GENRE, True),), 8, 3, (3,), direct=False),
        SharedFact(((GENRE, True),), 7, 4, (2, 3, 4), direct=False),
    ]


def test_the_same_entity_by_another_relation_is_no_shared_fact():
    assert shared(4, 3) == [SharedFact(((GENRE, True),), 7, 4, (3,), direct=False)]


def test_a_direct_triple_is_seen_from_both_ends():
    found = shared(4, 1)
    assert found[0] == SharedFact(((SEQUEL, False),), 1, 1, (1,), direct=True)
    assert [fact.entity for fact in found] == [1, 7]


def test_directions_shared_with_different_items_stay_apart():
    one_way = [triple for triple in TRIPLES if triple != (6, FILM, 2)]
    found = shared(1, 2, triples=[*one_way, (6, FILM, 3)])
    assert found[0] == SharedFact(((DIRECTED, True),), 6, 3, (2,), direct=False)
    found = shared(1, 2, 3, triples=[*one_way, (6, FILM, 3)])
    about = {(fact.relations, fact.history) for fact in found if fact.entity == 6}
    assert about == {(((DIRECTED, True),), (2,)), (((FILM, False),), (3,))}


def test_an_item_is_no_history_of_its_own():
    assert shared(1, 1, 2) == shared(1, 2)
    assert shared(1, 1) == []


def test_items_without_facts():
    assert shared(5, 1, 2, 3, 4) == []
    assert shared(1) == []
    empty = KnowledgeGraph(*(np.empty(0, np.int64),) * 3, 6, 1, ["?"], ["?"] * 6, np.zeros(6, bool))
    assert ItemFacts(empty, 6).shared(1, np.array([2])) == []


def by_loop(triples, item, history):
    """The (relation, direction, entity) of an item that history items have too."""
    found = {}
    for mine in sides(triples, item):
        others = {other for other in history if other != item and mine in sides(triples, other)}
        if others:
            found[mine] = others
    return found


def sides(triples, item):
    out = {(relation, True, tail) for head, relation, tail in triples if head == item}
    return out | {(relation, False, head) for head, relation, tail in triples if tail == item}


@pytest.mark.parametrize("seed", range(5))
def test_random_graphs_against_loops(seed):
    rng = np.random.default_rng(seed)
    triples = {
        (int(head), int(relation), int(tail))
        for head, relation, tail in rng.integers(1, [9, 5, 9], (40, 3))
        if head != tail
    }
    history = np.array([1, 2, 3])
    for item in range(1, 6):
        flat = {
            (relation, leads, fact.entity): set(fact.history)
            for fact in shared(item, *history, triples=sorted(triples))
            if not fact.direct
            for relation, leads in fact.relations
        }
        assert flat == by_loop(triples, item, history)
        for fact in shared(item, *history, triples=sorted(triples)):
            joined = {
                one
                for head, _, tail in triples
                for one, other in ((head, tail), (tail, head))
                if other == fact.entity and one < 6
            }
            assert fact.n_items == len(joined)


@pytest.mark.parametrize(
    ("token", "wanted"),
    [
        ("film.film.directed_by", "film: directed by"),
        ("film.film_genre.films_in_this_genre", "film genre: films in this genre"),
        ("http://dbpedia.org/ontology/musicComposer", "music composer"),
        ("http://www.w3.org/1999/02/22-rdf-syntax-ns#type", "type"),
        ("/people/person/nationality", "person: nationality"),
        ("r3", "r3"),
        ("12", "12"),
        ("brand", "brand"),
        ("...", "..."),
    ],
)
def test_relations_in_words(token, wanted):
    assert readable(token) == wanted
