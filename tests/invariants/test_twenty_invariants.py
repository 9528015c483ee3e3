"""Twenty properties that hold without any training, in `paper` mode, and the tests that say so.

Paths are below `tests/`; several tests of one file follow its path.

 1 Smooth-Chamfer of trivial sets.
   similarity/test_smooth_chamfer.py: test_a_set_of_one_is_the_cosine_or_the_distance,
   test_equal_elements_are_the_point_plus_a_constant
 2 Smooth-Chamfer lies between Chamfer and Chamfer plus a constant.
   similarity/test_smooth_chamfer.py: test_bounds
 3 Its limits are Chamfer and the mean cosine.
   similarity/test_smooth_chamfer.py: test_limits
   invariants/test_invariants_of_parts.py: test_sharp_smooth_chamfer_is_chamfer_and_blunt_the_mean_cosine,
   test_at_alpha_100_sets_without_near_ties_are_within_1e_4_of_chamfer
 4 Which pairs of elements learn, and that their shares sum to 1.
   similarity/test_smooth_chamfer.py: test_every_pair_of_elements_learns_and_shares_sum_to_one
   similarity/test_set_similarities.py: test_who_learns
 5 Set similarities are symmetric and know no order of elements.
   similarity/test_set_similarities.py: test_the_order_of_sets_and_of_elements_does_not_matter
 6 Slot attention: shares over slots, means over inputs, permutations, and the softmax over inputs instead.
   encoders/test_pie_heads.py: test_slots_share_each_input_and_take_a_mean,
   test_without_competition_inputs_sum_to_one_and_slots_do_not
   encoders/test_heads.py: test_order_of_inputs_is_free_without_positions_and_slots_permute
   invariants/test_invariants_of_parts.py: test_slots_permute_with_their_start_and_inputs_have_no_order,
   test_one_slot_reads_the_plain_mean_of_the_values
 7 More padding never changes an embedding; captions of released DivE change.
   invariants/test_invariants_of_models.py: test_padding_and_company_never_change_an_image,
   test_padding_and_company_never_change_a_text, test_released_dive_captions_change_with_padding
   encoders/test_pie_heads.py: test_padding_and_the_rest_of_the_batch_change_nothing
   encoders/test_heads.py: test_padding_changes_much_in_released_mode
 8 Pooling: GPO's weights, order, maximum and mean as its special cases; the mean of the top two.
   encoders/test_pooling.py: test_gpo_weights_are_shares_that_depend_on_the_length_only, test_order_is_free,
   test_gpo_holds_maximum_and_mean, test_top_mean_lies_between_mean_and_maximum
 9 HREM's graph: connections, closeness, and a plain Transformer layer as its special case.
   relations/test_association.py: test_connections_and_closeness,
   test_everything_connected_without_relevance_is_a_plain_transformer_layer
10 HREM's graph follows a permuted batch, and whom nobody may hear changes no other.
   relations/test_association.py: test_order_of_the_batch_does_not_matter,
   test_a_node_nobody_may_listen_to_changes_no_other
11 HREM embeds an item alone as in any batch, and its relation changes no score.
   invariants/test_invariants_of_models.py: test_hrem_embeds_an_item_alone_as_in_any_batch,
   test_the_relations_weights_change_no_score_of_hrem
   relations/test_association.py: test_its_weights_change_no_embedding_of_the_towers
12 The relevance regulariser: not negative, zero up to rows, no gradient to the towers.
   relations/test_association.py: test_the_regulariser_is_zero_where_relevance_is_the_guide_up_to_rows,
   test_the_regulariser_trains_the_relevance_alone
13 Distance-weighted sampling.
   losses/test_distance_weighted.py: test_rows_sum_to_one_and_a_positive_is_never_drawn,
   test_the_only_admissible_negative_is_drawn, test_negatives_below_the_nearest_distance_are_equally_likely
   invariants/test_invariants_of_parts.py: test_negatives_nearer_than_the_cut_off_are_equally_likely
14 Mahalanobis distance.
   similarity/test_gaussian_similarities.py: test_variances_times_a_number_divide_the_distance_by_it,
   test_unit_vectors_and_variances_of_at_least_one_give_at_most_four
   invariants/test_invariants_of_parts.py: test_mahalanobis_of_variance_1_at_equal_means_and_as_one_product
15 The hypergraph operator.
   relations/test_hypergraph.py:
   test_the_operator_is_symmetric_within_0_and_1_and_keeps_the_root_of_the_degrees,
   test_permuting_nodes_conjugates_it_and_edges_have_no_order
   invariants/test_invariants_of_parts.py: test_own_edges_keep_and_one_edge_averages
16 MSRM's losses know no order of the pairs; the limits of the semantic distribution loss.
   losses/test_semantic_distribution.py: test_order_of_the_pairs_is_free,
   test_without_sharpness_it_is_the_logarithm_of_the_queries
   relations/test_hypergraph.py: test_the_order_of_the_batch_does_not_matter, test_places_mind_the_order
   invariants/test_invariants_of_parts.py: test_candidates_on_their_own_query_far_from_all_others_cost_nothing
17 PCME: probabilities, their special cases, and both directions of its loss.
   invariants/test_invariants_of_models.py: test_pcme_gives_probabilities_and_both_directions_agree,
   test_pcme_without_variance_is_the_point_formula,
   test_pcmes_loss_of_one_sample_is_a_logistic_loss_with_doubled_scalars
   similarity/test_sample_similarities.py: test_one_draw_is_a_logistic_of_the_distance_with_both_scalars_doubled,
   test_equal_draws_are_one_draw
   losses/test_probabilistic_terms.py: test_directions_coincide_and_the_sum_is_the_mean_times_the_pairs
18 The box distance.
   similarity/test_box_distance.py: test_nothing_is_outside_just_when_the_point_is_inside,
   test_no_offset_is_the_point, test_by_its_definition, test_continuous_across_the_border
19 Triplet and MMD.
   losses/test_triplet.py: test_zero_just_when_every_margin_holds, test_hardest_at_most_all_and_semi_hard_at_most_all,
   test_two_pairs_have_one_negative_each, test_mmd_is_symmetric_and_not_negative
20 Metrics and ensembles.
   invariants/test_invariants_of_metrics.py: test_recall_grows_with_k_and_rsum_is_at_most_600,
   test_of_one_right_answer_all_three_are_the_same, test_plausible_matches,
   test_the_mean_with_itself_or_a_positive_affine_copy_keeps_every_rank,
   test_an_ensemble_of_a_model_with_itself_is_the_model
   evaluation/test_metrics.py: test_orders_between_metrics
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
NAMED = re.compile(r"([a-z_]+/test_\w+\.py):|\b(test_\w+)\b")


def named() -> dict[int, list[tuple[str, str]]]:
    """Invariant -> (file, test) of each test the table names."""
    out: dict[int, list[tuple[str, str]]] = {}
    parts = re.split(r"^ ?(\d+) ", __doc__ or "", flags=re.M)
    for number, text in zip(parts[1::2], parts[2::2], strict=True):
        path = ""
        for found in NAMED.finditer(text):
            path = found[1] or path
            if found[2]:
                out.setdefault(int(number), []).append((path, found[2]))
    return out


def test_every_invariant_is_tested_where_the_table_says() -> None:
    table = named()
    assert list(table) == list(range(1, 21))
    files = {path for rows in table.values() for path, _ in rows}
    there = {path: {n.name for n in ast.parse((TESTS / path).read_text()).body if hasattr(n, "name")} for path in files}
    missing = [
        f"{number}: {path} {test}" for number, rows in table.items() for path, test in rows if test not in there[path]
    ]
    assert not missing


def test_no_test_of_this_folder_is_left_out_of_the_table() -> None:
    here = {test for rows in named().values() for path, test in rows if path.startswith("invariants/")}
    for path in Path(__file__).parent.glob("test_invariants_of_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert node.name in here, f"{path.name}: {node.name}"
