{#- Id of the votes of a group of people about two models on a benchmark. -#}
{% macro vote_group_id() -%}
    'vote-' || left(md5(concat_ws(
        chr(31), benchmark, judge_group, least(model_a, model_b), greatest(model_a, model_b)
    )), 12)
{%- endmacro %}

{#- Whose votes can be compared: judges' results and groups of people, by the two models that they
    are about. Experiments of one name in different datasets are different models: they are compared
    with imported votes only where the name is one dataset's. -#}
{% macro vote_groups() -%}
    with datasets as (
        select model, count(distinct dataset) as datasets
        from (
            select dataset, unnest([model_a, model_b]) as model
            from {{ ref('results') }}
            where kind = 'pair' and source = 'judged'
        )
        group by model
    ),

    judges as (
        select
            result_id as group_id, source, dataset, benchmark, judge, false as is_human,
            least(model_a, model_b) as model_1, greatest(model_a, model_b) as model_2
        from {{ ref('results') }}
        where kind = 'pair'
    ),

    people as (
        select distinct
            {{ vote_group_id() }} as group_id, '(imported)' as pool, benchmark,
            judge_group as judge, true as is_human,
            least(model_a, model_b) as model_1, greatest(model_a, model_b) as model_2
        from {{ source('lake', 'imported_verdicts') }}
        where is_human and kind = 'pair' and state = 'used' and status = 'ok'
    )

    select group_id, dataset as pool, benchmark, judge, is_human, model_1, model_2 from judges
    union all
    select group_id, '(imported)', benchmark, judge, is_human, model_1, model_2
    from judges
    where
        source = 'judged'
        and (select bool_and(datasets = 1) from datasets where model in (model_1, model_2))
        and exists (
            select 1 from people
            where
                people.benchmark = judges.benchmark
                and people.model_1 = judges.model_1
                and people.model_2 = judges.model_2
        )
    union all
    select group_id, pool, benchmark, judge, is_human, model_1, model_2 from people
{%- endmacro %}
