{#- The verdicts of all partitions that have changed, own and imported ones in one form, as a
    temporary table: it is read twice, and binding it opens no file of the lake. Older lakes lack
    `protocol`, `sampling` and `turn`. `result_key` stands for the columns of a result. -#}
{% macro read_pair_verdicts() -%}
    create or replace temporary table changed_pair_verdicts as
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
        from {{ lake_rows('pairwise_verdicts') }}
        union all
        select
            'imported', '(imported)', model_a || ' vs ' || model_b, model_a, model_b, benchmark,
            question_id, turn, shown_first, winner, score_a, score_b, orders_disagree, status,
            judge_group, protocol, 'imported', prompt_version, sampling, null, state, file_name, row
        from {{ lake_rows('imported_verdicts') }}
        where kind = 'pair' and not is_human and state in ('used', 'conflict')
    )
{%- endmacro %}

{#- Likewise of single verdicts. -#}
{% macro read_single_verdicts() -%}
    create or replace temporary table changed_single_verdicts as
    select
        hash({{ result_columns('model') }}) as result_key,
        *
    from (
        select
            'judged' as source, dataset, experiment as model, benchmark, question_id, turn, score,
            status, judge, coalesce(protocol, 'single') as protocol, reading, prompt_version,
            coalesce(sampling, '') as sampling, nullif(reply_id, '') as reply_id,
            'used' as state, null::varchar as file, null::bigint as row
        from {{ lake_rows('single_verdicts') }}
        union all
        select
            'imported', '(imported)', model_a, benchmark, question_id, turn, score_a, status,
            judge_group, protocol, 'imported', prompt_version, sampling, null, state, file_name, row
        from {{ lake_rows('imported_verdicts') }}
        where kind = 'single' and not is_human and state in ('used', 'conflict')
    )
{%- endmacro %}

{#- Whether a row of outcomes or of what came of them is from a partition that has changed. -#}
{% macro verdicts_have_changed(table, subject) -%}
    {{ has_changed(
        [table, 'imported_verdicts'],
        "if(source = 'imported', '', dataset)",
        "if(source = 'imported', '', " ~ subject ~ ")"
    ) }}
{%- endmacro %}

{#- Deletes what an incremental model has of partitions that have changed; it reads them anew. -#}
{% macro forget_changed(table, subject) -%}
    {% if is_incremental() %}
    delete from {{ this }} where {{ verdicts_have_changed(table, subject) }}
    {% endif %}
{%- endmacro %}

{#- Counts verdicts on questions that no benchmark has: they are in no mart, and a test names them. -#}
{% macro keep_strays(kind, verdicts, table, subject) -%}
    delete from interim.stray_verdicts
    where kind = '{{ kind }}' and {{ verdicts_have_changed(table, 'subject') }};
    insert into interim.stray_verdicts
    select '{{ kind }}', source, dataset, {{ subject }}, benchmark, question_id, count(*)
    from {{ verdicts }}
    anti join {{ source('lake', 'benchmark_questions') }} using (benchmark, question_id)
    group by all
{%- endmacro %}

{#- Deletes what an incremental model counts of results that have changed or are no more. A result's
    verdicts are all of one partition. -#}
{% macro forget_changed_cells(outcomes, table, subject) -%}
    {% if is_incremental() %}
    delete from {{ this }}
    where
        result_id not in (select result_id from {{ outcomes }})
        or result_id in (
            select result_id from {{ outcomes }} where {{ verdicts_have_changed(table, subject) }}
        )
    {% endif %}
{%- endmacro %}

{#- Likewise of the answers, whose pool is a dataset, (outside) or (imported). -#}
{% macro forget_changed_answers() -%}
    {% if is_incremental() %}
    delete from {{ this }}
    where
        {{ has_changed(['model_answers'], 'pool', 'model') }}
        or (pool = '(outside)' and {{ has_changed(['outside_answers'], 'model', "''") }})
        or (pool = '(imported)' and {{ has_changed(['imported_answers'], "''", "''") }})
    {% endif %}
{%- endmacro %}
