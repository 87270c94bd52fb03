{#- Whether one of the models is the embedded default, whose label starts with `embedded:`.
    Several models stand in one column separated by commas. -#}
{% macro filled_by_embedded(models) -%}
    ({%- for model in models -%}
        coalesce(contains({{ model }}, 'embedded:'), false){{ ' or ' if not loop.last }}
    {%- endfor -%})
{%- endmacro %}

{#- What to know about rows that the embedded default filled; null where it did not. -#}
{% macro embedded_note(models) -%}
    case
        when {{ filled_by_embedded(models) }}
            then 'filled by the embedded model: it is there to run, not to judge well'
    end
{%- endmacro %}
