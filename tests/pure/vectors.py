"""What the worked cases must come to: numbers a bookkeeper can check, one line a figure.

The id of a case, a field, its value. test_vectors_all.py holds them against the case file where
that is at hand.
"""

FIGURES = """
TV-01 exact 0.02221125
TV-01 billed_line 0.02
TV-02 standard 0.01299525
TV-02 batch 0.006497625
TV-02 flex 0.006497625
TV-02 priority 0.0259905
TV-03 amount 0.079
TV-03 graduated_wrong 0.0246
TV-04 at_32000 0.0444
TV-04 at_32001 0.0888024
TV-05 amount 0.0444
TV-06 thinking_cny 0.020
TV-06 non_thinking_500_out_cny 0.009
TV-06 split_wrong_cny 0.017
TV-07 create 0.0303
TV-07 hit 0.0096
TV-07 uncached 0.0258
TV-07 two_calls_cached 0.0399
TV-07 two_calls_uncached 0.0516
TV-08 alibaba_batch 0.051
TV-08 claude_realtime 0.8175
TV-08 claude_batch 0.40875
TV-09 free_tokens 50000
TV-09 billed_input 10000
TV-09 billed_output 2000
TV-09 amount 0.048
TV-09 billed_line 0.05
TV-10 cny 0.0519
TV-10 batch_cny 0.02595
TV-11 qwen3_vl 882
TV-11 qwen25_vl 1198
TV-11 thumb_20x20_28 6
TV-12 amount 1.46125
TV-12 storage_only 1.125
TV-13 case1 10000
TV-13 case2_in 55940
TV-13 case2_out 1170
TV-13 case3_in 31940
TV-14 normalised_tpm 93000
TV-14 ptu 31
TV-14 deployed 35
TV-14 monthly_usd_at_1_per_hour_730h 25550
TV-15 byok_fee 50
TV-15 topup_10 0.80
TV-15 topup_100 5.5
TV-18 peak_hours 35
TV-19 before 0.168
TV-19 after_off_peak 0.286
TV-22 first 2026-11-01T05:30:00+00:00
TV-22 second 2026-11-01T06:30:00+00:00
TV-23 UTC 2026-08
TV-23 Asia/Shanghai 2026-09
TV-23 America/Los_Angeles 2026-08
TV-24 amount 52
TV-24 base_would_be 20
TV-24 event_cost 40
TV-25 amount 5.7175
TV-25 billed 5.72
TV-26 amount 52
TV-27 graduated 232
TV-27 volume 192
TV-27 volume_at_100M 200
TV-27 volume_at_100M_plus_1 160.0000016
TV-28 amount 346
TV-28 before 160
TV-28 after 186
TV-29 standing_A 100
TV-29 standing_B 600
TV-29 allow_A 33333333
TV-29 allow_B 333333333
TV-29 over_A 6666667
TV-29 over_B 16666667
TV-29 line_A 13.33
TV-29 line_B 25
TV-29 total 738.33
TV-30 ratchet_floor 784
TV-30 billing_demand 784
TV-30 charge 705.6
TV-31 fixed 161.333333
TV-31 sliding5 248
TV-31 sliding1 282.666667
TV-31 one_minute_peak 300
TV-32 excess 130
TV-32 charge 49780
TV-32 within_1040 38000
TV-34 month_use_31_20 50
TV-34 annual_spend 10450.75
TV-34 true_up 1549.25
TV-35 free 5
TV-35 plan 20
TV-35 wallet 12.4
TV-36 reservation_needed 0.072
TV-36 policy_cap_max_output_tokens 2166
TV-36 policy_cap_debit 0.049992
TV-36 wallet_after 0.000008
TV-37 reservation 0.072
TV-37 capped_max_output 3833
TV-37 debit 0.066
TV-37 wallet_after -0.016
TV-37 emergency_used 0.016
TV-38 emergency 10
TV-38 friendly 3.4
TV-38 debt_recovered 1.98
TV-38 debt_left 43.02
TV-38 credited 4.62
TV-39 estimated 83.2
TV-39 actual 75.76
TV-39 adjustment -7.44
TV-40 original 197.53
TV-40 credit_note -197.53
TV-40 rebilled 179.01
TV-40 net -18.52
TV-40 taxed_net_6pct -19.63
TV-41 line 4
TV-41 wrong 3.63
TV-42 delta 6.8
TV-42 naive_first_block 8
TV-43 billable 2520
TV-43 written_off 420
TV-44 per_line_half_up 0.03
TV-44 per_line_half_even 0
TV-44 total_then_round 0.02
TV-44 credit_of_one_line -0.01
TV-45 cny 8794.26
TV-45 back_usd 1234.56
TV-45 jpy_of_1234_5 1235
TV-45 kwd_of_1_23456 1.235
TV-47 difference 500
TV-47 tolerance 482.5
TV-49 technical_non_billed 21000
TV-49 unaccounted 8000
TV-49 uft_pct 0.8
TV-50 SF 1600
TV-50 R1 20
TV-50 R2 -1.12
TV-50 RF 0.4
TV-51 net_billing 124
TV-51 buy_all_sell_all 322
TV-52 instalment 1200
TV-52 settle_up 630
TV-53 outgoing 40.4
TV-53 incoming 39.6
TV-54 baseline 520
TV-54 curtailed 210
TV-54 payment 21
TV-54 shortfall 40
TV-55 gpus 8
TV-55 wh_per_token_per_gpu 0.0000530692
TV-55 wh_request 0.253786
TV-55 g_co2 0.14212
TV-56 h1 c4d99b2fa5bd87a686b39f1f95a36a7c339941e41736ec86ac111de4db409a1e
TV-56 h2 5fdb733b566f2286abb94f5aed601ac8ff83f77c26b5048478b41ed6e3ce18f9
TV-56 pub d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a
TV-57 minutes 17826628
TV-57 tid_mod_2_24 1049412
TV-57 rollover 2024-11-24T20:16:00
TV-58 one 0.000000003625
TV-58 seven_half 0.0000000126875
TV-59 rated_on_22_aug 1.716
TV-59 rerated_on_23_aug 0.858
TV-59 adjustment -0.858
TV-60 time_basis_start 1.716
TV-60 time_basis_end 0.858
TV-61 accepted_tokens 1000
TV-61 duplicates 1
TV-61 conflicts 1
TV-62 rollover_advance 25000
TV-62 reset_advance 15000
TV-63 billed_output 400
TV-63 wrong_sum 750
TV-65 customer 0
TV-65 wholesale_cost 0.0192
TV-65 loss_class failed_not_billed
TV-66 sum_of_peaks 180
TV-66 account_peak 120
TV-66 coincident 30
TV-67 standard 0.102
TV-67 cached 0.0444
TV-67 batch 0.051
TV-68 location_g 516
TV-68 market_g 129
TV-68 green_share 0.75
"""
# Cases whose figures are tables stand whole in their tests: here is which.
TABLES = ("TV-16", "TV-17", "TV-20", "TV-21", "TV-33", "TV-46", "TV-48", "TV-64")
SIGNATURE_56 = (
    "ce997d29a2d600fb9ca764427b1e06cb5c9f2423cb9acba3371883ec60e2ee23"
    "286d652c53767596d96c7d13d04d411a40749527585223781027b05435c32305"
)


def figures() -> dict[tuple[str, str], str]:
    """Return the figures by case and field."""
    lines = [line.split(" ", 2) for line in FIGURES.strip().splitlines()]
    return {(case, name): value for case, name, value in lines}


_FIGURES = figures()


def figure(number: int, name: str) -> str:
    """Return a figure of a case."""
    return _FIGURES[f"TV-{number:02}", name]
