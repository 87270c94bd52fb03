{#- The rules of the publication gate, in the order in which they are told. -#}
{% macro gate_rules() -%}
    [
        'every_judgment', 'few_unparsable', 'both_orders', 'equal_mix', 'same_judge',
        'answers_complete', 'parity', 'chat_template', 'no_contamination', 'no_conflicts'
    ]
{%- endmacro %}
