{#- One status of the judge calls behind a result: `ok` where all were read, `unparsable` where all
    were answered but one could not be read, `stopped` where one was not asked because sequential
    stopping had decided, `missing` where one was not answered or never asked. -#}
{% macro judged_status() -%}
    case
        when {% for status in varargs -%}
            {{ status }} = 'ok'{{ ' and ' if not loop.last }}
        {%- endfor %} then 'ok'
        when {% for status in varargs -%}
            {{ is_judged(status) }}{{ ' and ' if not loop.last }}
        {%- endfor %} then 'unparsable'
        when {% for status in varargs -%}
            ({{ is_judged(status) }} or {{ status }} = 'stopped'){{ ' and ' if not loop.last }}
        {%- endfor %} then 'stopped'
        else 'missing'
    end
{%- endmacro %}

{#- Whether the judge answered, readably or not. -#}
{% macro is_judged(status) -%}
    {{ status }} in ('ok', 'unparsable', 'truncated', 'refused')
{%- endmacro %}

{#- Columns that are one result together, in the order in which `result_id` is made of them. -#}
{% macro result_columns(subject) -%}
    source, dataset, {{ subject }}, benchmark, judge, protocol, reading, prompt_version, sampling
{%- endmacro %}

{#- Short id of a result; `kind` is single or pair. -#}
{% macro result_id(kind, subject) -%}
    '{{ kind }}-' || left(md5(concat_ws(chr(31), {{ result_columns(subject) }})), 12)
{%- endmacro %}

{#- The rules that merge the verdicts of two orders, each a column of `pair_outcomes`. -#}
{% macro merging_rules() -%}
    {{ return(['win_or_tie', 'both_agree', 'sum_of_scores']) }}
{%- endmacro %}

{#- The outcome by the rule that a column names. -#}
{% macro outcome_by(rule) -%}
    case {{ rule }}
        {%- for each in merging_rules() %}
        when '{{ each }}' then {{ each }}
        {%- endfor %}
        else error('judge_protocols has the unknown merging rule ' || coalesce({{ rule }}, '(none)'))
    end
{%- endmacro %}

{#- A fact from `judge_protocols`, joined as `known` to pair verdicts. Those of a protocol that is
    not there can't be counted, and the build ends. -#}
{% macro known_protocol(fact) -%}
    if(
        known.protocol is null,
        error(
            'There are verdicts of the judge protocol ' || coalesce(protocol, '(none)')
            || ', which judge_protocols lacks: install the package that adds it, or delete those '
            || 'verdicts'
        ),
        {{ fact }}
    )
{%- endmacro %}

{#- A share in percent; null where there is nothing to share. -#}
{% macro percent(part, whole) -%}
    100.0 * ({{ part }}) / nullif({{ whole }}, 0)
{%- endmacro %}

{#- "40 of turn 2" for the turns of a list of {turn, n} structs; nothing for whole conversations. -#}
{% macro by_turn(turns) -%}
    coalesce(
        ': ' || nullif(array_to_string(
            [each.n || ' of turn ' || each.turn for each in {{ turns }} if each.turn > 0], ', '
        ), ''),
        ''
    )
{%- endmacro %}
