{#- One status of the judge calls behind a result: `ok` where all were read, `unparsable` where all
    were answered but one could not be read, `missing` where one was not answered or never asked. -#}
{% macro judged_status() -%}
    case
        when {% for status in varargs -%}
            {{ status }} = 'ok'{{ ' and ' if not loop.last }}
        {%- endfor %} then 'ok'
        when {% for status in varargs -%}
            {{ status }} in ('ok', 'unparsable', 'truncated', 'refused'){{ ' and ' if not loop.last }}
        {%- endfor %} then 'unparsable'
        else 'missing'
    end
{%- endmacro %}

{#- A share in percent; null where there is nothing to share. -#}
{% macro percent(part, whole) -%}
    100.0 * ({{ part }}) / nullif({{ whole }}, 0)
{%- endmacro %}
