{#- Reads verdicts into a temporary table: it is read twice, and binding it opens no file of the lake.
    -#}
{% macro read_verdicts(kind) -%}
    create or replace temporary table {{ kind }}_verdicts as
    {{ pair_verdicts() if kind == 'pair' else single_verdicts() }}
{%- endmacro %}

{#- All verdicts on pairs, own and imported ones in one form. Older lakes lack `protocol`, `sampling`
    and `turn`. `result_key` stands for the columns of a result. -#}
{% macro pair_verdicts() -%}
    select
        hash({{ result_columns('matchup') }}) as result_key,
        *
    from (
        select
            'judged' as source, dataset, matchup, model_a, model_b, benchmark, question_id,
            coalesce(turn, 0) as turn, shown_first, winner, score_a, score_b,
            null::boolean as orders_disagree, status, judge,
            coalesce(protocol, if(reading = 'logprobs', 'preference', 'scores')) as protocol,
            reading, prompt_version, coalesce(sampling, '') as sampling, nullif(reply_id, '') as reply_id,
            'used' as state, null::varchar as file, null::bigint as row
        from {{ source('lake', 'pairwise_verdicts') }}
        union all
        select
            'imported', '(imported)', model_a || ' vs ' || model_b, model_a, model_b, benchmark,
            question_id, turn, shown_first, winner, score_a, score_b, orders_disagree, status,
            judge_group, protocol, 'imported', prompt_version, sampling, null, state, file_name, row
        from {{ source('lake', 'imported_verdicts') }}
        where kind = 'pair' and not is_human and state in ('used', 'conflict')
    )
{%- endmacro %}

{#- Likewise of single verdicts. -#}
{% macro single_verdicts() -%}
    select
        hash({{ result_columns('model') }}) as result_key,
        *
    from (
        select
            'judged' as source, dataset, experiment as model, benchmark, question_id, turn, score,
            status, judge, coalesce(protocol, 'single') as protocol, reading, prompt_version,
            coalesce(sampling, '') as sampling, nullif(reply_id, '') as reply_id,
            'used' as state, null::varchar as file, null::bigint as row
        from {{ source('lake', 'single_verdicts') }}
        union all
        select
            'imported', '(imported)', model_a, benchmark, question_id, turn, score_a, status,
            judge_group, protocol, 'imported', prompt_version, sampling, null, state, file_name, row
        from {{ source('lake', 'imported_verdicts') }}
        where kind = 'single' and not is_human and state in ('used', 'conflict')
    )
{%- endmacro %}
